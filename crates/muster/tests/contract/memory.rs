//! A memory that is lost or damaged: the agent starts, says what was found, asks for its account, and
//! nothing runs twice.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::json;

use crate::fleet::{Fleet, until};

/// Damages a journal whose file and log lie at these paths.
type Damage = fn(&Path, &Path);

/// What is done to the journals, and whether it must be noticed: a flipped byte may lie where nothing
/// is kept.
const DAMAGES: [(&str, bool, Damage); 7] = [
    ("missing", true, |file, log| {
        std::fs::remove_file(file).unwrap();
        let _ = std::fs::remove_file(log);
    }),
    ("empty", true, |file, log| {
        std::fs::write(file, "").unwrap();
        let _ = std::fs::remove_file(log);
    }),
    ("cut", true, |file, log| {
        let length = std::fs::metadata(file).unwrap().len();
        std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length / 2).unwrap();
        let _ = std::fs::remove_file(log);
    }),
    ("noise", true, |file, _| std::fs::write(file, b"\xffnoise".repeat(9_000)).unwrap()),
    ("header", true, |file, log| {
        overwrite(file, 0, 100);
        let _ = std::fs::remove_file(log);
    }),
    ("page", false, |file, _| overwrite(file, 4096, 2_000)),
    ("log", false, |_, log| overwrite(log, 5_000, 2_000)),
];

fn overwrite(path: &Path, at: u64, bytes: usize) {
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&vec![0xa5; bytes]).unwrap();
}

#[test]
fn a_damaged_journal_is_said_and_asked_after_and_runs_nothing_twice() {
    let mut fleet = Fleet::new();
    let names = DAMAGES.map(|(name, _, _)| name);
    let token = fleet.token(u32::try_from(names.len()).unwrap());
    fleet.publish("mark", &fleet.mark(""), json!({}));
    for name in names {
        fleet.agent(name, &token);
    }
    fleet.advertise("before", "mark", &names, json!({}));
    fleet.ok(&["wait", "before", "--for", "complete", "--timeout", "60s"]);
    for (name, _, damage) in DAMAGES {
        // What the site has not acknowledged may be told twice, which makes two histories.
        until("the site has all and the run is let go", || {
            let left = std::fs::read_dir(fleet.path(&format!("{name}/runs"))).unwrap().count();
            (left == 0 && fleet.status(name)["outbox"]["length"] == 0).then_some(())
        });
        fleet.kill(name);
        let journal = fleet.path(&format!("{name}/journal.db"));
        damage(Path::new(&journal), Path::new(&format!("{journal}-wal")));
        fleet.restart(name);
    }
    fleet.advertise("after", "mark", &names, json!({}));
    for (name, must_notice, _) in DAMAGES {
        fleet.stands(name, "after", "succeeded");
        fleet.stands(name, "before", "succeeded");
        let said = fleet.json(&["messages", "--device", name]);
        let lost = said.to_string().contains("memory lost");
        assert!(lost || !must_notice, "{name}: {said}");
        until("no account is awaited", || {
            (fleet.status(name)["awaitsAccount"] == false).then_some(())
        });
    }
    assert_eq!(fleet.truth().len(), 2 * names.len(), "{:?}", fleet.truth());
    fleet.ok(&["accounting", "verify"]);
}
