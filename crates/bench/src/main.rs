//! The load generator: stands in for any number of devices of a site, over few connections.
//!
//! `scripts/bench` calls it, after it has started the site and what stands beside it. It speaks the
//! device protocol and nothing else to a running site; only `seed` opens the database, of a site
//! that does not run. It needs to read the site's folder, because it issues itself the certificate
//! of an access point. It judges nothing: it prints figures, one run a line.
#![deny(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures are what it is for")]

mod connection;
mod cpu;
mod device;
mod error;
mod ingest;
mod poll;
mod report;
mod seed;
mod site;
mod sqlite;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use muster_model::id::AdvertisementId;

use device::Devices;
use error::BenchError;
use site::Site;

/// Load for a site, and figures.
#[derive(Parser)]
#[command(name = "muster-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Register devices in the database of a site that does not run.
    Seed {
        /// The site's folder.
        #[arg(long)]
        site: PathBuf,
        /// FROM..TO, by number.
        devices: Devices,
    },
    /// Print the first and the last id of devices.
    Ids {
        /// FROM..TO, by number.
        devices: Devices,
    },
    /// Send one batch of each device; prints rows a second, and the median and 99th percentile of
    /// the time to a receipt in milliseconds.
    Ingest {
        /// The site's folder.
        #[arg(long)]
        site: PathBuf,
        /// What the devices report about.
        #[arg(long, value_delimiter = ',')]
        advertisements: Vec<AdvertisementId>,
        /// FROM..TO, by number.
        devices: Devices,
    },
    /// Poll policies that have not changed, in turn with another server; prints microseconds of
    /// server CPU a poll, the site's and the other's, a round a line.
    Poll {
        /// The site's folder.
        #[arg(long)]
        site: PathBuf,
        /// The site's process.
        #[arg(long)]
        pid: u32,
        /// What the other server answers 304 for: https://HOST:PORT/PATH.
        #[arg(long)]
        beside: String,
        /// The other server's processes.
        #[arg(long, value_delimiter = ',')]
        beside_pids: Vec<u32>,
        /// Rounds, after one to warm up.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// Seconds of each server's part of a round.
        #[arg(long, default_value_t = 6)]
        seconds: u64,
        /// FROM..TO, by number.
        devices: Devices,
    },
    /// Write a certificate of the site's CA for a server on this machine, as PEM files.
    Certificate {
        /// The site's folder.
        #[arg(long)]
        site: PathBuf,
        /// Where `server.crt` and `server.key` are written.
        dir: PathBuf,
    },
    /// Insert messages of a site into an equal table of another SQLite file, 10,000 a commit; prints
    /// rows a second.
    Inserts {
        /// The site's database.
        from: PathBuf,
        /// Made if it is not there.
        into: PathBuf,
        /// FROM..TO, by number.
        devices: Devices,
    },
    /// Count the rows of every table of a SQLite file: TABLE COUNT a line.
    Rows {
        /// The database.
        file: PathBuf,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster-bench: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), BenchError> {
    match command {
        Command::Seed { site, devices } => seed::seed(&Site::open(&site).await?, devices).await,
        Command::Ids { devices } => {
            println!("{} {}", devices.first().id(), devices.last().id());
            Ok(())
        }
        Command::Ingest { site, advertisements, devices } => {
            let found = ingest::ingest(&Site::open(&site).await?, &advertisements, devices).await?;
            println!("{found}");
            Ok(())
        }
        Command::Poll { site, pid, beside, beside_pids, rounds, seconds, devices } => {
            let site = Site::open(&site).await?;
            let other = poll::Other { url: beside, pids: beside_pids };
            let length = std::time::Duration::from_secs(seconds);
            poll::poll(&site, pid, &other, rounds, length, devices).await
        }
        Command::Certificate { site, dir } => Site::open(&site).await?.write_certificate(&dir),
        Command::Inserts { from, into, devices } => {
            println!("{:.0}", sqlite::inserts(&from, &into, devices)?);
            Ok(())
        }
        Command::Rows { file } => {
            for (table, count) in sqlite::rows(&file)? {
                println!("{table} {count}");
            }
            Ok(())
        }
    }
}

/// The error with its causes, as one sentence.
fn sentence(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", sentence(cause)),
        None => error.to_string(),
    }
}
