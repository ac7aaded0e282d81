//! `messages --follow`: everything, once, also through a restart of the site.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::fleet::Fleet;

/// How long the next message may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A follower in the background, and what it has told.
struct Follower {
    child: Child,
    told: Receiver<Value>,
}

impl Follower {
    fn start(fleet: &Fleet, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command.args(["messages", "--follow", "-o", "json"]).args(more);
        command.env("MUSTER_CONFIG", fleet.path("config.yaml")).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, told) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, told }
    }

    /// The texts that were told, up to one that contains `last`.
    fn until(&self, last: &str) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            let message = self.told.recv_timeout(PATIENCE);
            let message = message.unwrap_or_else(|_| panic!("no {last:?} after {texts:#?}"));
            texts.push(message["text"].as_str().unwrap().to_owned());
            if texts.last().unwrap().contains(last) {
                return texts;
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn apply(fleet: &Fleet, name: &str) {
    let document = json!({"apiVersion": "muster/v1", "kind": "Collection",
        "metadata": {"name": name}, "spec": {}});
    let file = fleet.write(&format!("{name}.yaml"), &document.to_string());
    fleet.ok(&["apply", "-f", &file]);
}

/// How often each of `c0`, `c1`, ... was told to be created.
fn counts(texts: &[String], n: usize) -> Vec<usize> {
    let told =
        |i: usize| texts.iter().filter(move |text| text.contains(&format!("`c{i}` created")));
    (0..n).map(|i| told(i).count()).collect()
}

#[test]
fn a_follower_hears_everything_once_while_the_site_is_killed() {
    followed(Fleet::bare());
}

#[test]
fn a_follower_hears_everything_once_on_postgresql() {
    followed(Fleet::on_postgres());
}

fn followed(mut fleet: Fleet) {
    apply(&fleet, "c0");
    let follower = Follower::start(&fleet, &[]);
    let mut texts = follower.until("`c0` created");
    for i in 1..7 {
        apply(&fleet, &format!("c{i}"));
        if i % 3 == 0 {
            fleet.kill("site");
            fleet.restart("site");
        }
    }
    texts.extend(follower.until("`c6` created"));
    assert_eq!(counts(&texts, 7), [1; 7], "{texts:#?}");
}

#[test]
fn a_follower_of_nothing_yet_misses_not_the_first() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("bad", "exit 7", json!({}));
    let follower = Follower::start(&fleet, &["--severity", "error"]);
    fleet.advertise("bad", "bad", &["d1"], json!({}));
    let texts = follower.until("7");
    assert_eq!(texts.len(), 1, "{texts:#?}");
    fleet.refused(2, &["messages", "--severity", "loud"]);
}
