//! The tables that a question may name: what is meant for people, under names that do not change with
//! the schema. Secrets and their digests, keys and the ends of hash chains are in none of them.
//!
//! Each stands for a selection over the site's own tables, which takes its place before the question
//! is asked, so that no question reads anything else. A test holds `docs/reference.md` against this
//! table.

use super::super::dialect::Dialect;

/// What a question may name.
pub(super) struct Offered {
    /// Its name.
    pub(super) name: &'static str,
    columns: &'static [(&'static str, Shape)],
    from: &'static str,
}

/// How a column is made of the site's own.
enum Shape {
    /// As it is.
    Plain(&'static str),
    /// Milliseconds since 1970 become RFC 3339 text in UTC, which also sorts.
    Time(&'static str),
    /// Bytes become hex text.
    Hex(&'static str),
    /// JSON stays JSON: `body ->> 'field'` works on it.
    Json(&'static str),
    /// One field of JSON, as text.
    Field(&'static str, &'static str),
}

use Shape::{Field, Hex, Json, Plain, Time};

/// Everything that is offered.
pub(super) const OFFERED: &[Offered] = &[
    Offered {
        name: "site",
        columns: &[
            ("code", Plain("s.code")),
            ("url", Plain("s.url")),
            ("epoch", Plain("s.epoch")),
            ("created", Time("s.created_at")),
            ("trust", Plain("s.trust_number")),
            ("halted", Json("s.halted")),
            ("revision", Plain("(SELECT number FROM revision)")),
        ],
        from: "site s",
    },
    Offered {
        name: "device",
        columns: &[
            ("id", Plain("d.id")),
            ("name", Plain("d.name")),
            ("standing", Plain("d.admission")),
            ("held", Json("d.held")),
            ("os", Field("d.facts", "os")),
            ("arch", Field("d.facts", "arch")),
            ("agent_version", Field("d.facts", "agentVersion")),
            ("facts", Json("d.facts")),
            ("enrolled", Time("d.enrolled_at")),
            ("retired", Time("d.retired_at")),
            ("last_contact", Time("c.at")),
        ],
        from: "device d LEFT JOIN contact c ON c.device = d.id",
    },
    Offered {
        name: "package",
        columns: &[
            ("id", Plain("o.id")),
            ("name", Plain("o.name")),
            ("created", Time("o.created_at")),
            ("changed", Time("o.changed_at")),
            ("deleted", Time("o.archived_at")),
        ],
        from: "object o WHERE o.kind = 'package'",
    },
    Offered {
        name: "package_version",
        columns: &[
            ("package", Plain("v.package")),
            ("name", Plain("o.name")),
            ("version", Plain("v.version")),
            ("manifest", Hex("v.manifest")),
            ("content_bytes", Plain("v.content_bytes")),
            ("published", Time("v.published_at")),
            ("published_by", Plain("v.published_by")),
            ("revoked", Json("v.revoked")),
        ],
        from: "package_version v JOIN object o ON o.id = v.package",
    },
    Offered {
        name: "collection",
        columns: &[
            ("id", Plain("o.id")),
            ("name", Plain("o.name")),
            ("members", Plain("c.members")),
            ("evaluated", Time("c.evaluated_at")),
            ("error", Plain("c.error")),
            ("deleted", Time("o.archived_at")),
        ],
        from: "collection c JOIN object o ON o.id = c.id",
    },
    Offered {
        name: "member",
        columns: &[
            ("collection", Plain("m.collection")),
            ("collection_name", Plain("o.name")),
            ("device", Plain("m.device")),
            ("device_name", Plain("d.name")),
            ("since", Time("m.from_at")),
        ],
        from: "membership m JOIN object o ON o.id = m.collection JOIN device d ON d.id = m.device
               WHERE m.until_revision IS NULL",
    },
    Offered {
        name: "advertisement",
        columns: &[
            ("id", Plain("a.id")),
            ("name", Plain("o.name")),
            ("revision", Plain("a.revision")),
            ("package", Plain("a.package")),
            ("package_name", Plain("p.name")),
            ("version", Plain("a.version")),
            ("program", Plain("a.program")),
            ("collection", Plain("a.collection")),
            ("collection_name", Plain("c.name")),
            ("expires", Time("a.expires")),
            ("stopped", Json("a.stopped")),
            ("deleted", Time("a.deleted_at")),
        ],
        from: "advertisement a JOIN object o ON o.id = a.id JOIN object p ON p.id = a.package
               JOIN object c ON c.id = a.collection",
    },
    Offered {
        name: "obligation",
        columns: &[
            ("advertisement", Plain("b.advertisement")),
            ("advertisement_name", Plain("o.name")),
            ("occurrence", Plain("b.occurrence")),
            ("device", Plain("b.device")),
            ("device_name", Plain("d.name")),
            ("state", Plain("b.state")),
            ("detail", Json("b.detail")),
            ("revision", Plain("b.revision")),
            ("since", Time("b.since")),
            ("updated", Time("b.updated")),
            ("attempt", Plain("b.attempt")),
            ("exit_code", Plain("b.exit_code")),
            ("disputed", Plain("b.disputed")),
        ],
        from: "obligation b JOIN object o ON o.id = b.advertisement JOIN device d ON d.id = b.device",
    },
    Offered {
        name: "message",
        columns: &[
            ("device", Plain("m.device")),
            ("device_name", Plain("d.name")),
            ("incarnation", Plain("m.incarnation")),
            ("sequence", Plain("m.sequence")),
            ("received", Time("m.received")),
            ("wall", Time("m.wall")),
            ("trusted", Time("m.trusted")),
            ("code", Plain("m.code")),
            ("severity", Plain("m.severity")),
            ("component", Plain("m.component")),
            ("advertisement", Plain("m.advertisement")),
            ("body", Json("m.body")),
        ],
        from: "message m JOIN device d ON d.id = m.device",
    },
    Offered {
        name: "audit",
        columns: &[
            ("revision", Plain("a.revision")),
            ("at", Time("a.at")),
            ("code", Plain("a.code")),
            ("severity", Plain("a.severity")),
            ("principal", Plain("a.principal")),
            ("advertisement", Plain("a.advertisement")),
            ("device", Plain("a.device")),
            ("text", Plain("a.text")),
        ],
        from: "site_message a",
    },
    Offered {
        name: "gap",
        columns: &[
            ("device", Plain("g.device")),
            ("incarnation", Plain("g.incarnation")),
            ("first", Plain("g.first")),
            ("last", Plain("g.last")),
            ("since", Time("g.at")),
        ],
        from: "gap g",
    },
    Offered {
        name: "set_aside",
        columns: &[
            ("number", Plain("s.number")),
            ("reason", Plain("s.reason")),
            ("detail", Plain("s.detail")),
            ("sender", Plain("s.sender")),
            ("device", Plain("s.device")),
            ("at", Time("s.at")),
            ("seen", Plain("s.seen")),
            ("resolution", Plain("s.resolution")),
            ("resolved", Time("s.resolved_at")),
        ],
        from: "set_aside s",
    },
    Offered {
        name: "token",
        columns: &[
            ("id", Plain("t.id")),
            ("role", Plain("t.role")),
            ("name", Plain("t.name")),
            ("uses_left", Plain("t.uses_left")),
            ("hold", Plain("t.hold")),
            ("collection", Plain("t.collection")),
            ("created", Time("t.created_at")),
            ("created_by", Plain("t.created_by")),
            ("expires", Time("t.expires_at")),
            ("revoked", Time("t.revoked_at")),
        ],
        from: "token t",
    },
    Offered {
        name: "credential",
        columns: &[
            ("id", Plain("p.id")),
            ("role", Plain("p.role")),
            ("name", Plain("p.name")),
            ("created", Time("p.created_at")),
            ("created_by", Plain("p.created_by")),
            ("expires", Time("p.expires_at")),
            ("revoked", Time("p.revoked_at")),
        ],
        from: "principal p",
    },
];

/// What a question means by `name`, whatever its case.
pub(super) fn find(name: &str) -> Option<&'static Offered> {
    OFFERED.iter().find(|one| one.name.eq_ignore_ascii_case(name))
}

impl Offered {
    /// The selection that it stands for.
    pub(super) fn selection(&self, dialect: Dialect) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|(name, shape)| format!("{} AS {name}", shape.expression(dialect)))
            .collect();
        format!("SELECT {} FROM {}", columns.join(", "), self.from)
    }

    /// The names of its columns.
    #[cfg(test)]
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.columns.iter().map(|(name, _)| *name)
    }
}

impl Shape {
    fn expression(&self, dialect: Dialect) -> String {
        match (self, dialect) {
            (Plain(column), _) | (Json(column), Dialect::Lite) => (*column).to_owned(),
            (Json(column), Dialect::Pg) => format!("CAST({column} AS JSON)"),
            (Field(column, field), Dialect::Lite) => format!("{column} ->> '{field}'"),
            (Field(column, field), Dialect::Pg) => {
                format!("CAST({column} AS JSON) ->> '{field}'")
            }
            (Hex(column), Dialect::Lite) => format!("lower(hex({column}))"),
            (Hex(column), Dialect::Pg) => format!("encode({column}, 'hex')"),
            (Time(column), Dialect::Lite) => {
                format!("strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000.0, 'unixepoch')")
            }
            (Time(column), Dialect::Pg) => format!(
                "to_char(to_timestamp({column} / 1000.0) AT TIME ZONE 'UTC', \
                 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_lists_every_table_with_its_columns() {
        let reference = include_str!("../../../../../docs/reference.md");
        for one in OFFERED {
            let names: Vec<String> = one.names().map(|name| format!("`{name}`")).collect();
            let row = format!("| `{}` | {} |", one.name, names.join(", "));
            assert!(reference.contains(&row), "docs/reference.md lacks the line\n{row}");
        }
    }

    #[test]
    fn no_secret_and_no_key_is_offered() {
        for one in OFFERED {
            for dialect in [Dialect::Lite, Dialect::Pg] {
                let text = one.selection(dialect);
                for kept in ["secret", ".key", "chain", "machine", "signatures"] {
                    assert!(!text.contains(kept), "{}: {text}", one.name);
                }
            }
        }
    }
}
