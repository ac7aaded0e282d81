//! Several processes of one site on one PostgreSQL, with every notification between them lost.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};
use crate::proxy::pass_on;

/// Each process reads the site's revisions at least every second; the rest is for two busy cores. A
/// poll is held for an hour, so without that reading nothing would come in time.
const BOUND: Duration = Duration::from_secs(10);

#[test]
fn what_one_process_is_told_the_other_serves_though_every_notification_is_lost() {
    let mut fleet = Fleet::empty();
    let proxy = Deaf::before(&fleet.postgres());
    let content = format!("file://{}", fleet.path("content"));
    fleet.site(&["--database", &proxy.url, "--content", &content]);
    fleet.ok(&["publisher", "init", "--name", "ada"]);
    let other = second_process(&mut fleet);
    let token = fleet.token(2);
    // One device at each process.
    fleet.agent("d1", &token);
    assert_eq!(fleet.enroll("d2", &token, &["--site", &other]).code, 0);
    fleet.start_agent("d2", &[]);
    for name in ["d1", "d2"] {
        until("the device holds its first policy", || {
            fleet.status(name)["policy"].is_object().then_some(())
        });
    }
    fleet.publish("mark", &fleet.mark(""), json!({}));
    let lost = proxy.dropped();
    for (process, advertisement, far) in [("site", "first", "d2"), ("site2", "second", "d1")] {
        fleet.ok(&["login", "--data", &fleet.path(process)]);
        fleet.advertise(advertisement, "mark", &["d1", "d2"], json!({}));
        let applied = Instant::now();
        until("the device at the other process was told", || told(&fleet, far, advertisement));
        assert!(applied.elapsed() < BOUND, "{far}: {:?}", applied.elapsed());
        fleet.stands("d1", advertisement, "succeeded");
        fleet.stands("d2", advertisement, "succeeded");
    }
    assert!(proxy.dropped() > lost, "there were notifications to lose");
    assert_eq!(fleet.truth().len(), 4);
    fleet.ok(&["accounting", "verify"]);
}

fn told(fleet: &Fleet, device: &str, advertisement: &str) -> Option<()> {
    let software = fleet.json(&["agent", "software", "--data", &fleet.path(device)]);
    let mut rows = software["items"].as_array()?.iter();
    rows.any(|row| row["name"] == advertisement).then_some(())
}

/// Starts a second process of the site: its folder with ports of its own. Answers its URL.
fn second_process(fleet: &mut Fleet) -> String {
    let (one, two, ports) = (fleet.path("site"), fleet.path("site2"), fleet.path("ports"));
    fleet.ok(&["site", "init", "--data", &ports, "--code", "XYZ"]);
    for folder in ["run", "keys"] {
        std::fs::create_dir_all(format!("{two}/{folder}")).unwrap();
    }
    for file in std::fs::read_dir(format!("{one}/keys")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), format!("{two}/keys/{}", file.file_name().display())).unwrap();
    }
    let read = |folder: &str| -> Value {
        serde_json::from_slice(&std::fs::read(format!("{folder}/site.json")).unwrap()).unwrap()
    };
    let (mut config, chosen) = (read(&one), read(&ports));
    for name in ["listen", "metricsListen", "url"] {
        config[name] = chosen[name].clone();
    }
    fleet.write("site2/site.json", &config.to_string());
    fleet.start("site2", &["site", "run", "--data", &two]);
    config["url"].as_str().unwrap().to_owned()
}

/// A way to PostgreSQL that passes on everything but notifications.
struct Deaf {
    url: String,
    dropped: Arc<AtomicU64>,
}

impl Deaf {
    /// Listens before the server of `url`, until the test's process ends.
    fn before(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (before, database) = url.rsplit_once('/').unwrap();
        let (user, server) = before.rsplit_once('@').unwrap();
        let url = format!("{user}@127.0.0.1:{port}/{database}?sslmode=disable");
        let dropped = Arc::new(AtomicU64::new(0));
        let (server, count) = (server.to_owned(), dropped.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || pass_on(from, to));
                let count = count.clone();
                std::thread::spawn(move || pass_on_but_notifications(server, client, &count));
            }
        });
        Self { url, dropped }
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// What a server says are messages: a letter, a length that counts itself, a body. `A` is
/// NotificationResponse (PostgreSQL's manual, "Message Formats").
fn pass_on_but_notifications(mut from: TcpStream, mut to: TcpStream, dropped: &AtomicU64) {
    let mut next = || -> std::io::Result<()> {
        let mut message = vec![0; 5];
        from.read_exact(&mut message)?;
        let length = u32::from_be_bytes(message[1..].try_into().unwrap()) as usize;
        message.resize(1 + length, 0);
        from.read_exact(&mut message[5..])?;
        if message[0] == b'A' {
            dropped.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        to.write_all(&message)
    };
    while next().is_ok() {}
    let _ = to.shutdown(Shutdown::Both);
}
