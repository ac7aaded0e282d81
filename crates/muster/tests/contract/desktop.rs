//! Notices on the desktop: the real agent, `busctl` and session bus; the desktop is a few lines of D-Bus
//! that answer what a notification service answers.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::json;

use crate::fleet::{Fleet, until};

/// A session bus that ends with the test.
struct Bus(Child, String);

impl Bus {
    fn start(fleet: &Fleet) -> Self {
        let socket = fleet.path("bus");
        let config = format!(
            "<busconfig><type>session</type><listen>unix:path={socket}</listen>
             <auth>EXTERNAL</auth><policy context=\"default\"><allow send_destination=\"*\"/>
             <allow receive_sender=\"*\"/><allow own=\"*\"/></policy></busconfig>"
        );
        let config = format!("--config-file={}", fleet.write("bus.conf", &config));
        let daemon = Command::new("dbus-daemon").args([&config, "--nofork"]).spawn();
        let daemon = daemon.expect("dbus-daemon is there: scripts/setup installs it");
        until("the bus listens", || UnixStream::connect(&socket).ok());
        Self(daemon, socket)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A header field: its number, its type, its value as it is written.
type Field = (u8, char, Vec<u8>);

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn text(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes(), b"\0"].concat()
}

fn signature(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes(), b"\0"].concat()
}

/// A message as the D-Bus specification writes it, in little-endian order.
fn message(kind: u8, serial: u32, fields: &[Field], body: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    for (code, of, value) in fields {
        align(&mut header, 8);
        header.push(*code);
        header.extend(signature(&of.to_string()));
        if *of != 'g' {
            align(&mut header, 4);
        }
        header.extend(value);
    }
    let mut message = vec![b'l', kind, 0, 1];
    message.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    message.extend(serial.to_le_bytes());
    message.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    message.extend(header);
    align(&mut message, 8);
    message.extend(body);
    message
}

fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// The next message: serial, member, sender and body.
fn read(bus: &mut UnixStream) -> Option<(u32, String, String, Vec<u8>)> {
    let mut start = [0; 16];
    bus.read_exact(&mut start).ok()?;
    let mut fields = vec![0; number(&start, 12).next_multiple_of(8)];
    let mut body = vec![0; number(&start, 4)];
    bus.read_exact(&mut fields).ok()?;
    bus.read_exact(&mut body).ok()?;
    let (mut at, mut member, mut sender) = (0, String::new(), String::new());
    while at < number(&start, 12) {
        at = at.next_multiple_of(8);
        let (code, of) = (fields[at], fields[at + 2]);
        at += 4;
        match of {
            b'u' => at += 4,
            b'g' => at += usize::from(fields[at]) + 2,
            _ => {
                let length = number(&fields, at);
                let value = String::from_utf8_lossy(&fields[at + 4..at + 4 + length]).into_owned();
                at += length + 5;
                match code {
                    3 => member = value,
                    7 => sender = value,
                    _ => {}
                }
            }
        }
    }
    Some((u32::try_from(number(&start, 8)).unwrap(), member, sender, body))
}

/// A desktop: takes the name of the notification service, answers `Notify`, and passes on what was said.
fn desktop(socket: &str) -> Receiver<String> {
    let mut bus = UnixStream::connect(socket).unwrap();
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    let hex: String = uid.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
    bus.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes()).unwrap();
    let mut answer = [0; 256];
    let length = bus.read(&mut answer).unwrap();
    assert!(answer[..length].starts_with(b"OK "), "{:?}", String::from_utf8_lossy(&answer));
    bus.write_all(b"BEGIN\r\n").unwrap();
    let to_bus = |member: &str, more: &[Field]| {
        let fields = [
            (1, 'o', text("/org/freedesktop/DBus")),
            (2, 's', text("org.freedesktop.DBus")),
            (3, 's', text(member)),
            (6, 's', text("org.freedesktop.DBus")),
        ];
        fields.into_iter().chain(more.iter().cloned()).collect::<Vec<Field>>()
    };
    bus.write_all(&message(1, 1, &to_bus("Hello", &[]), &[])).unwrap();
    let mut name = text("org.freedesktop.Notifications");
    align(&mut name, 4);
    name.extend(0_u32.to_le_bytes());
    let own = to_bus("RequestName", &[(8, 'g', signature("su"))]);
    bus.write_all(&message(1, 2, &own, &name)).unwrap();
    let (said, heard) = channel();
    std::thread::spawn(move || {
        let mut serial = 2_u32;
        while let Some((call, member, sender, body)) = read(&mut bus) {
            if member != "Notify" {
                continue;
            }
            let _ = said.send(String::from_utf8_lossy(&body).into_owned());
            serial += 1;
            let fields = [
                (5, 'u', call.to_le_bytes().to_vec()),
                (6, 's', text(&sender)),
                (8, 'g', signature("u")),
            ];
            let _ = bus.write_all(&message(2, serial, &fields, &1_u32.to_le_bytes()));
        }
    });
    heard
}

#[test]
fn who_is_logged_on_is_told_on_the_desktop_and_the_log_says_so() {
    let user = Command::new("id").arg("-un").output().unwrap().stdout;
    let user = String::from_utf8(user).unwrap().trim().to_owned();
    let available = Command::new("busctl").arg("--version").stdout(Stdio::null()).status();
    assert!(available.is_ok_and(|status| status.success()), "scripts/setup installs busctl");
    let mut fleet = Fleet::new();
    let bus = Bus::start(&fleet);
    let heard = desktop(&bus.1);
    let sessions = |to: &str| json!([{"user": user, "bus": format!("unix:path={to}")}]).to_string();
    let source = fleet.write("sessions", &sessions(&bus.1));
    let token = fleet.token(1);
    fleet.agent_with("d1", &token, &["--session-source", &source]);
    let notice = json!({"notice": {"countdown": "2s", "deferUntil": "1h"}});
    fleet.publish("hello", &fleet.mark(""), notice);
    fleet.advertise("greeting", "hello", &["d1"], json!({}));
    let said = heard.recv_timeout(Duration::from_secs(60)).expect("the desktop is told");
    assert!(said.contains("greeting starts in 2s"), "{said}");
    assert!(said.contains("muster agent software defer"), "{said}");
    fleet.stands("d1", "greeting", "succeeded");
    until("the log says so", || fleet.log_of("d1").contains("told on the desktop").then_some(()));
    // A desktop that is not there changes nothing but the log.
    fleet.write("sessions", &sessions(&fleet.path("nothing")));
    fleet.publish("again", &fleet.mark("# again"), json!({"notice": {"countdown": "2s"}}));
    fleet.advertise("again", "again", &["d1"], json!({}));
    fleet.stands("d1", "again", "succeeded");
    until("the log says why", || {
        fleet.log_of("d1").contains("not told on the desktop").then_some(())
    });
}
