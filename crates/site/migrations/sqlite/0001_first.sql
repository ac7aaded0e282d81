-- The first schema of a site. Its twin for PostgreSQL has the same tables, columns and nullability.
--
-- Times are milliseconds since 1970-01-01T00:00:00Z. Revisions are site revisions, but for the
-- columns named `revision` of advertisement tables and obligations, which count one advertisement's
-- edits. Ids are UUIDs as text. Digests are 32 bytes. Columns that hold JSON are text: what is stored is what was said.
-- What devices write (stream, message, obligation, ...) has no foreign keys, as there; no row of a
-- device is ever deleted. Small rows live in the tree of their key (WITHOUT ROWID); messages do not,
-- because a tree over whole rows of their size branches too little.

CREATE TABLE schema (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL,
    oldest_reader INTEGER NOT NULL,
    oldest_writer INTEGER NOT NULL
) STRICT;
INSERT INTO schema (one, number, oldest_reader, oldest_writer) VALUES (1, 1, 1, 1);

CREATE TABLE site (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    code TEXT NOT NULL,
    epoch TEXT NOT NULL,
    url TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    settings TEXT NOT NULL,
    settings_version INTEGER NOT NULL,
    trust_number INTEGER NOT NULL,
    halted TEXT,
    halt_version INTEGER NOT NULL
) STRICT;

CREATE TABLE revision (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL
) STRICT;
INSERT INTO revision (one, number) VALUES (1, 0);

CREATE TABLE change (
    revision INTEGER NOT NULL,
    item INTEGER NOT NULL,
    subject TEXT NOT NULL,
    id TEXT,
    PRIMARY KEY (revision, item)
) STRICT, WITHOUT ROWID;

-- What the site and its people did, written with the change itself.
CREATE TABLE site_message (
    revision INTEGER NOT NULL,
    item INTEGER NOT NULL,
    at INTEGER NOT NULL,
    code INTEGER NOT NULL,
    severity TEXT NOT NULL,
    component TEXT NOT NULL,
    principal TEXT NOT NULL,
    advertisement TEXT,
    device TEXT,
    text TEXT NOT NULL,
    PRIMARY KEY (revision, item)
) STRICT;
CREATE INDEX site_message_at ON site_message (at);

CREATE TABLE object (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    look TEXT NOT NULL,
    changed_revision INTEGER NOT NULL,
    document TEXT NOT NULL,
    set_name TEXT,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    archived_at INTEGER
) STRICT;
CREATE UNIQUE INDEX object_name ON object (kind, name) WHERE archived_at IS NULL;
-- Two live names that look alike cannot both be: the look of a name is its Unicode skeleton.
CREATE UNIQUE INDEX object_look ON object (kind, look) WHERE archived_at IS NULL;

CREATE TABLE package_version (
    package TEXT NOT NULL REFERENCES object (id),
    version TEXT NOT NULL,
    manifest BLOB NOT NULL,
    spec TEXT NOT NULL,
    signatures TEXT NOT NULL,
    content_bytes INTEGER NOT NULL,
    published_revision INTEGER NOT NULL,
    published_at INTEGER NOT NULL,
    published_by TEXT NOT NULL,
    revoked TEXT,
    PRIMARY KEY (package, version)
) STRICT;
CREATE INDEX package_version_manifest ON package_version (manifest);

-- The stored objects that a package version needs, in the order of its manifest.
CREATE TABLE package_object (
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    position INTEGER NOT NULL,
    digest BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (package, version, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX package_object_digest ON package_object (digest);

CREATE TABLE advertisement (
    id TEXT NOT NULL PRIMARY KEY REFERENCES object (id),
    revision INTEGER NOT NULL,
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    manifest BLOB NOT NULL,
    program TEXT NOT NULL,
    collection TEXT NOT NULL,
    expires INTEGER,
    stopped TEXT,
    deleted_at INTEGER,
    FOREIGN KEY (package, version) REFERENCES package_version (package, version)
) STRICT;
CREATE INDEX advertisement_package ON advertisement (package, version);
CREATE INDEX advertisement_collection ON advertisement (collection);

CREATE TABLE advertisement_revision (
    advertisement TEXT NOT NULL REFERENCES advertisement (id),
    revision INTEGER NOT NULL,
    document TEXT NOT NULL,
    version TEXT NOT NULL,
    manifest BLOB NOT NULL,
    at INTEGER NOT NULL,
    principal TEXT NOT NULL,
    PRIMARY KEY (advertisement, revision)
) STRICT;

CREATE TABLE occurrence (
    advertisement TEXT NOT NULL REFERENCES advertisement (id),
    occurrence TEXT NOT NULL,
    announced INTEGER NOT NULL,
    announced_at INTEGER NOT NULL,
    due TEXT,
    PRIMARY KEY (advertisement, occurrence)
) STRICT, WITHOUT ROWID;

-- While a span is open, whoever is a member of its collection is targeted. Half open: [opened, closed).
CREATE TABLE occurrence_span (
    advertisement TEXT NOT NULL,
    occurrence TEXT NOT NULL,
    collection TEXT NOT NULL,
    opened INTEGER NOT NULL,
    closed INTEGER,
    PRIMARY KEY (advertisement, occurrence, collection, opened)
) STRICT, WITHOUT ROWID;
CREATE INDEX occurrence_span_open ON occurrence_span (collection) WHERE closed IS NULL;

CREATE TABLE collection (
    id TEXT NOT NULL PRIMARY KEY REFERENCES object (id),
    policy_version INTEGER NOT NULL,
    membership_version INTEGER NOT NULL,
    members INTEGER NOT NULL,
    evaluated_at INTEGER,
    error TEXT
) STRICT;

CREATE TABLE binding (
    collection TEXT NOT NULL REFERENCES collection (id),
    name TEXT NOT NULL,
    device TEXT,
    PRIMARY KEY (collection, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX binding_device ON binding (device) WHERE device IS NOT NULL;
CREATE INDEX binding_unresolved ON binding (name) WHERE device IS NULL;

-- Intervals of site revisions, half open: [from_revision, until_revision).
CREATE TABLE membership (
    collection TEXT NOT NULL,
    device TEXT NOT NULL,
    from_revision INTEGER NOT NULL,
    until_revision INTEGER,
    -- When it became a member, in the site's time.
    from_at INTEGER NOT NULL,
    PRIMARY KEY (collection, device, from_revision)
) STRICT, WITHOUT ROWID;
-- Nobody is a member twice at once; also answers the collections of a device.
CREATE UNIQUE INDEX membership_open ON membership (device, collection) WHERE until_revision IS NULL;
-- The members by now, in the order of their ids.
CREATE INDEX membership_members ON membership (collection, device) WHERE until_revision IS NULL;
CREATE INDEX membership_joined ON membership (collection, from_revision);
CREATE INDEX membership_left ON membership (collection, until_revision, device)
    WHERE until_revision IS NOT NULL;

CREATE TABLE device (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    key BLOB NOT NULL,
    admission TEXT NOT NULL,
    held TEXT,
    facts TEXT NOT NULL,
    facts_version INTEGER NOT NULL,
    evaluated_version INTEGER NOT NULL,
    settings TEXT NOT NULL,
    own_version INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    next_incarnation INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    certificate_serial TEXT NOT NULL,
    certificate_until INTEGER NOT NULL,
    machine BLOB,
    token TEXT,
    enrolled_at INTEGER NOT NULL,
    retired_at INTEGER
) STRICT;
CREATE INDEX device_name ON device (name);
-- One device a key, so that a repeated enrolment finds the first one.
CREATE UNIQUE INDEX device_key ON device (key);
CREATE INDEX device_machine ON device (machine) WHERE machine IS NOT NULL;
CREATE INDEX device_unevaluated ON device (id) WHERE facts_version <> evaluated_version;

-- Apart from `device`, because it changes with every poll that is noted.
CREATE TABLE contact (
    device TEXT NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    tag BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX contact_at ON contact (at);

CREATE TABLE stream (
    device TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    through INTEGER NOT NULL,
    head BLOB NOT NULL,
    waiting INTEGER NOT NULL,
    fork TEXT,
    forgotten INTEGER NOT NULL,
    PRIMARY KEY (device, incarnation)
) STRICT, WITHOUT ROWID;

CREATE TABLE gap (
    device TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (device, incarnation, first)
) STRICT, WITHOUT ROWID;

CREATE TABLE message (
    device TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    received INTEGER NOT NULL,
    wall INTEGER NOT NULL,
    trusted INTEGER NOT NULL,
    code INTEGER NOT NULL,
    late INTEGER NOT NULL,
    severity TEXT NOT NULL,
    component TEXT NOT NULL,
    advertisement TEXT,
    chain BLOB NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (device, incarnation, sequence)
) STRICT;
CREATE INDEX message_received ON message (received);
CREATE INDEX message_advertisement ON message (advertisement, received)
    WHERE advertisement IS NOT NULL;

CREATE TABLE set_aside (
    number INTEGER NOT NULL PRIMARY KEY,
    digest BLOB NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    sender TEXT NOT NULL,
    device TEXT,
    incarnation INTEGER,
    sequence INTEGER,
    chain BLOB,
    bytes BLOB,
    at INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    resolution TEXT,
    resolved_at INTEGER
) STRICT;
CREATE UNIQUE INDEX set_aside_digest ON set_aside (digest);
CREATE INDEX set_aside_waiting ON set_aside (number) WHERE resolution IS NULL;
CREATE INDEX set_aside_place ON set_aside (device, incarnation, sequence) WHERE device IS NOT NULL;

CREATE TABLE obligation (
    advertisement TEXT NOT NULL,
    occurrence TEXT NOT NULL,
    device TEXT NOT NULL,
    state TEXT NOT NULL,
    detail TEXT NOT NULL,
    decided TEXT NOT NULL,
    revision INTEGER NOT NULL,
    since INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    run BLOB,
    exit_code INTEGER,
    disputed TEXT,
    incarnation INTEGER,
    sequence INTEGER,
    PRIMARY KEY (advertisement, occurrence, device)
) STRICT;
CREATE INDEX obligation_device ON obligation (device);
CREATE INDEX obligation_state ON obligation (advertisement, occurrence, state, device);

-- Rows of `obligation` by state: a counter is its row here plus its deltas that are not folded yet.
CREATE TABLE counter (
    advertisement TEXT NOT NULL,
    occurrence TEXT NOT NULL,
    state TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (advertisement, occurrence, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE counter_delta (
    number INTEGER NOT NULL PRIMARY KEY,
    advertisement TEXT NOT NULL,
    occurrence TEXT NOT NULL,
    state TEXT NOT NULL,
    delta INTEGER NOT NULL
) STRICT;
CREATE INDEX counter_delta_occurrence ON counter_delta (advertisement, occurrence);

CREATE TABLE token (
    id TEXT NOT NULL PRIMARY KEY,
    role TEXT NOT NULL,
    name TEXT,
    secret BLOB NOT NULL,
    uses_left INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    hold INTEGER NOT NULL,
    collection TEXT,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE TABLE principal (
    id TEXT NOT NULL PRIMARY KEY,
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    secret BLOB,
    key BLOB,
    url TEXT,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT;
CREATE UNIQUE INDEX principal_secret ON principal (secret) WHERE secret IS NOT NULL;
CREATE UNIQUE INDEX principal_key ON principal (key) WHERE key IS NOT NULL;

CREATE TABLE trust_document (
    number INTEGER NOT NULL PRIMARY KEY,
    digest BLOB NOT NULL,
    document TEXT NOT NULL,
    at INTEGER NOT NULL,
    principal TEXT NOT NULL
) STRICT;

-- What the site's content store holds.
CREATE TABLE content (
    digest BLOB NOT NULL PRIMARY KEY,
    bytes INTEGER NOT NULL,
    stored_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
