-- The first schema of a site. Its twin for SQLite has the same tables, columns and nullability.
--
-- Times are milliseconds since 1970-01-01T00:00:00Z. Revisions are site revisions, but for the
-- columns named `revision` of advertisement tables and obligations, which count one advertisement's
-- edits. Digests are 32 bytes. Columns that hold JSON are text: what is stored is what was said.
-- What devices write (stream, message, obligation, ...) has no foreign keys: a check per row would
-- lock the device's row against everybody else, and no row of a device is ever deleted.

CREATE TABLE schema (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    number BIGINT NOT NULL,
    oldest_reader BIGINT NOT NULL,
    oldest_writer BIGINT NOT NULL
);
INSERT INTO schema (one, number, oldest_reader, oldest_writer) VALUES (1, 1, 1, 1);

CREATE TABLE site (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    code TEXT NOT NULL,
    epoch UUID NOT NULL,
    url TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    settings TEXT NOT NULL,
    settings_version BIGINT NOT NULL,
    trust_number BIGINT NOT NULL,
    halted TEXT,
    halt_version BIGINT NOT NULL
);

CREATE TABLE revision (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    number BIGINT NOT NULL
);
INSERT INTO revision (one, number) VALUES (1, 0);

CREATE TABLE change (
    revision BIGINT NOT NULL,
    item BIGINT NOT NULL,
    subject TEXT NOT NULL,
    id UUID,
    PRIMARY KEY (revision, item)
);

-- What the site and its people did, written with the change itself.
CREATE TABLE site_message (
    revision BIGINT NOT NULL,
    item BIGINT NOT NULL,
    at BIGINT NOT NULL,
    code BIGINT NOT NULL,
    severity TEXT NOT NULL,
    component TEXT NOT NULL,
    principal TEXT NOT NULL,
    advertisement UUID,
    device UUID,
    text TEXT NOT NULL,
    PRIMARY KEY (revision, item)
);
CREATE INDEX site_message_at ON site_message (at);

CREATE TABLE object (
    id UUID NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    look TEXT NOT NULL,
    changed_revision BIGINT NOT NULL,
    document TEXT NOT NULL,
    set_name TEXT,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    archived_at BIGINT
);
CREATE UNIQUE INDEX object_name ON object (kind, name) WHERE archived_at IS NULL;
-- Two live names that look alike cannot both be: the look of a name is its Unicode skeleton.
CREATE UNIQUE INDEX object_look ON object (kind, look) WHERE archived_at IS NULL;

CREATE TABLE package_version (
    package UUID NOT NULL REFERENCES object (id),
    version TEXT COLLATE "C" NOT NULL,
    manifest BYTEA NOT NULL,
    spec TEXT NOT NULL,
    signatures TEXT NOT NULL,
    content_bytes BIGINT NOT NULL,
    published_revision BIGINT NOT NULL,
    published_at BIGINT NOT NULL,
    published_by TEXT NOT NULL,
    revoked TEXT,
    PRIMARY KEY (package, version)
);
CREATE INDEX package_version_manifest ON package_version (manifest);

-- The stored objects that a package version needs, in the order of its manifest.
CREATE TABLE package_object (
    package UUID NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (package, version, position)
);
CREATE INDEX package_object_digest ON package_object (digest);

CREATE TABLE advertisement (
    id UUID NOT NULL PRIMARY KEY REFERENCES object (id),
    revision BIGINT NOT NULL,
    package UUID NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    manifest BYTEA NOT NULL,
    program TEXT NOT NULL,
    collection UUID NOT NULL,
    expires BIGINT,
    stopped TEXT,
    deleted_at BIGINT,
    FOREIGN KEY (package, version) REFERENCES package_version (package, version)
);
CREATE INDEX advertisement_package ON advertisement (package, version);
CREATE INDEX advertisement_collection ON advertisement (collection);

CREATE TABLE advertisement_revision (
    advertisement UUID NOT NULL REFERENCES advertisement (id),
    revision BIGINT NOT NULL,
    document TEXT NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    manifest BYTEA NOT NULL,
    at BIGINT NOT NULL,
    principal TEXT NOT NULL,
    PRIMARY KEY (advertisement, revision)
);

CREATE TABLE occurrence (
    advertisement UUID NOT NULL REFERENCES advertisement (id),
    occurrence TEXT COLLATE "C" NOT NULL,
    announced BIGINT NOT NULL,
    announced_at BIGINT NOT NULL,
    due TEXT,
    PRIMARY KEY (advertisement, occurrence)
);

-- While a span is open, whoever is a member of its collection is targeted. Half open: [opened, closed).
CREATE TABLE occurrence_span (
    advertisement UUID NOT NULL,
    occurrence TEXT COLLATE "C" NOT NULL,
    collection UUID NOT NULL,
    opened BIGINT NOT NULL,
    closed BIGINT,
    PRIMARY KEY (advertisement, occurrence, collection, opened)
);
CREATE INDEX occurrence_span_open ON occurrence_span (collection) WHERE closed IS NULL;

CREATE TABLE collection (
    id UUID NOT NULL PRIMARY KEY REFERENCES object (id),
    policy_version BIGINT NOT NULL,
    membership_version BIGINT NOT NULL,
    members BIGINT NOT NULL,
    evaluated_at BIGINT,
    error TEXT
);

CREATE TABLE binding (
    collection UUID NOT NULL REFERENCES collection (id),
    name TEXT COLLATE "C" NOT NULL,
    device UUID,
    PRIMARY KEY (collection, name)
);
CREATE INDEX binding_device ON binding (device) WHERE device IS NOT NULL;
CREATE INDEX binding_unresolved ON binding (name) WHERE device IS NULL;

-- Intervals of site revisions, half open: [from_revision, until_revision).
CREATE TABLE membership (
    collection UUID NOT NULL,
    device UUID NOT NULL,
    from_revision BIGINT NOT NULL,
    until_revision BIGINT,
    -- When it became a member, in the site's time.
    from_at BIGINT NOT NULL,
    PRIMARY KEY (collection, device, from_revision)
);
-- Nobody is a member twice at once; also answers the collections of a device.
CREATE UNIQUE INDEX membership_open ON membership (device, collection) WHERE until_revision IS NULL;
-- The members by now, in the order of their ids.
CREATE INDEX membership_members ON membership (collection, device) WHERE until_revision IS NULL;
CREATE INDEX membership_joined ON membership (collection, from_revision);
CREATE INDEX membership_left ON membership (collection, until_revision, device)
    WHERE until_revision IS NOT NULL;

CREATE TABLE device (
    id UUID NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    key BYTEA NOT NULL,
    admission TEXT NOT NULL,
    held TEXT,
    facts TEXT NOT NULL,
    facts_version BIGINT NOT NULL,
    evaluated_version BIGINT NOT NULL,
    settings TEXT NOT NULL,
    own_version BIGINT NOT NULL,
    incarnation BIGINT NOT NULL,
    next_incarnation BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    certificate_serial TEXT NOT NULL,
    certificate_until BIGINT NOT NULL,
    machine BYTEA,
    token UUID,
    enrolled_at BIGINT NOT NULL,
    retired_at BIGINT
);
CREATE INDEX device_name ON device (name);
-- One device a key, so that a repeated enrolment finds the first one.
CREATE UNIQUE INDEX device_key ON device (key);
CREATE INDEX device_machine ON device (machine) WHERE machine IS NOT NULL;
CREATE INDEX device_unevaluated ON device (id) WHERE facts_version <> evaluated_version;

-- Apart from `device`, because it changes with every poll that is noted.
CREATE TABLE contact (
    device UUID NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    tag BYTEA
) WITH (fillfactor = 70);
CREATE INDEX contact_at ON contact (at);

CREATE TABLE stream (
    device UUID NOT NULL,
    incarnation BIGINT NOT NULL,
    through BIGINT NOT NULL,
    head BYTEA NOT NULL,
    waiting BIGINT NOT NULL,
    fork TEXT,
    forgotten BIGINT NOT NULL,
    PRIMARY KEY (device, incarnation)
) WITH (fillfactor = 70);

CREATE TABLE gap (
    device UUID NOT NULL,
    incarnation BIGINT NOT NULL,
    first BIGINT NOT NULL,
    last BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (device, incarnation, first)
);

CREATE TABLE message (
    device UUID NOT NULL,
    incarnation BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    received BIGINT NOT NULL,
    wall BIGINT NOT NULL,
    trusted BIGINT NOT NULL,
    code BIGINT NOT NULL,
    late BIGINT NOT NULL,
    severity TEXT NOT NULL,
    component TEXT NOT NULL,
    advertisement UUID,
    chain BYTEA NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (device, incarnation, sequence)
);
CREATE INDEX message_received ON message (received);
CREATE INDEX message_advertisement ON message (advertisement, received)
    WHERE advertisement IS NOT NULL;

CREATE TABLE set_aside (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest BYTEA NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    sender TEXT NOT NULL,
    device UUID,
    incarnation BIGINT,
    sequence BIGINT,
    chain BYTEA,
    bytes BYTEA,
    at BIGINT NOT NULL,
    seen BIGINT NOT NULL,
    resolution TEXT,
    resolved_at BIGINT
);
CREATE UNIQUE INDEX set_aside_digest ON set_aside (digest);
CREATE INDEX set_aside_waiting ON set_aside (number) WHERE resolution IS NULL;
CREATE INDEX set_aside_place ON set_aside (device, incarnation, sequence) WHERE device IS NOT NULL;

CREATE TABLE obligation (
    advertisement UUID NOT NULL,
    occurrence TEXT COLLATE "C" NOT NULL,
    device UUID NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    detail TEXT NOT NULL,
    decided TEXT NOT NULL,
    revision BIGINT NOT NULL,
    since BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    run BYTEA,
    exit_code BIGINT,
    disputed TEXT,
    incarnation BIGINT,
    sequence BIGINT,
    PRIMARY KEY (advertisement, occurrence, device)
) WITH (fillfactor = 80);
CREATE INDEX obligation_device ON obligation (device);
CREATE INDEX obligation_state ON obligation (advertisement, occurrence, state, device);

-- Rows of `obligation` by state: a counter is its row here plus its deltas that are not folded yet.
CREATE TABLE counter (
    advertisement UUID NOT NULL,
    occurrence TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (advertisement, occurrence, state)
);

CREATE TABLE counter_delta (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    advertisement UUID NOT NULL,
    occurrence TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    delta BIGINT NOT NULL
);
CREATE INDEX counter_delta_occurrence ON counter_delta (advertisement, occurrence);

CREATE TABLE token (
    id UUID NOT NULL PRIMARY KEY,
    role TEXT NOT NULL,
    name TEXT,
    secret BYTEA NOT NULL,
    uses_left BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    hold BIGINT NOT NULL,
    collection UUID,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE principal (
    id UUID NOT NULL PRIMARY KEY,
    role TEXT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    secret BYTEA,
    key BYTEA,
    url TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);
CREATE UNIQUE INDEX principal_secret ON principal (secret) WHERE secret IS NOT NULL;
CREATE UNIQUE INDEX principal_key ON principal (key) WHERE key IS NOT NULL;

CREATE TABLE trust_document (
    number BIGINT NOT NULL PRIMARY KEY,
    digest BYTEA NOT NULL,
    document TEXT NOT NULL,
    at BIGINT NOT NULL,
    principal TEXT NOT NULL
);

-- What the site's content store holds.
CREATE TABLE content (
    digest BYTEA NOT NULL PRIMARY KEY,
    bytes BIGINT NOT NULL,
    stored_at BIGINT NOT NULL
);
