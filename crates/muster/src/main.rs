//! The muster program: one binary for every role.
//!
//! A run's supervisor is this binary too and must stay small, so it is told apart before anything
//! else is set up. Standard output is data, standard error is talk; exit codes are those of
//! [`error::Exit`].
#![deny(unsafe_code)]

mod api;
mod args;
mod commands;
mod compose;
mod context;
mod error;
mod events;
mod manifest;
mod print;
mod progress;
mod publisher_key;
mod role;
mod spool;
mod yaml;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use api::Api;
use args::{Cli, Command};
use commands::{
    accounting, agent, component, credential, device, doctor, login, logs, messages, objects,
    orders, package, publisher, query, site,
};
use error::{Exit, Failure, Outcome, Tried};
use muster_host::failpoint;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == muster_agent::supervisor::VERB) {
        return muster_agent::supervisor::main(words);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => {
            // Help and version are answers; everything else is a wrong command line.
            let code = if told.use_stderr() { Exit::Usage as u8 } else { 0 };
            let _ = told.print();
            return ExitCode::from(code);
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            print::say(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(cli: Cli) -> Outcome {
    match cli.command {
        Command::Site(command) if !matches!(command, args::SiteCommand::Settings { .. }) => {
            site::command(command)
        }
        Command::Agent(command) => agent::command(command),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "muster", &mut text);
            print::out(String::from_utf8_lossy(&text).trim_end());
            Ok(())
        }
        Command::Schema(format) => query::schema(format),
        Command::Failpoints => {
            let names = failpoint::Point::ALL.iter().map(|point| point.name());
            print::out(names.collect::<Vec<_>>().join("\n"));
            Ok(())
        }
        Command::Man { folder } => clap_mangen::generate_to(Cli::command(), &folder)
            .tried(|| format!("write manual pages into {}", folder.display())),
        command => client(command, cli.context.as_deref()),
    }
}

/// Commands that talk to a site, on a small runtime.
fn client(command: Command, named: Option<&str>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .tried(|| "start".into())?;
    runtime.block_on(async {
        match command {
            Command::Login(args) => login::login(args).await,
            Command::Logout => credential::logout(named).await,
            Command::Status(args) => component::status(|| connect(named), args).await,
            Command::Component(command) => component::command(|| connect(named), command).await,
            Command::SetAside(command) => {
                let api = match &command.role().data {
                    Some(data) => match role::of(data)? {
                        role::Role::Site => role::site_api(data)?,
                        role::Role::Agent => return device::set_aside_of_agent(&command),
                    },
                    None => connect(named)?,
                };
                device::set_aside(&api, command).await
            }
            Command::Describe(args) if args.kind == "settings" => {
                objects::describe(None, args).await
            }
            Command::Publisher(command) => {
                let offline = matches!(command, args::PublisherCommand::Init { offline: true, .. });
                let api = if offline { None } else { Some(connect(named)?) };
                publisher::command(api.as_ref(), command).await
            }
            command => with_site(&connect(named)?, command).await,
        }
    })
}

fn connect(named: Option<&str>) -> Outcome<Api> {
    let config = context::Config::load(&context::path()?)?;
    Api::new(&config.choose(named)?)
}

async fn with_site(api: &Api, command: Command) -> Outcome {
    match command {
        Command::Site(args::SiteCommand::Settings { changes, format }) => {
            login::settings(api, &changes, format.output).await
        }
        Command::Token(command) => credential::token(api, command).await,
        Command::Credential(command) => credential::credential(api, command).await,
        Command::Device(command) => device::command(api, command).await,
        Command::Package(command) => package::command(api, command).await,
        Command::Apply(args) => objects::apply(api, args).await,
        Command::Diff(args) => objects::diff(api, args).await,
        Command::Export(args) => objects::export(api, args).await,
        Command::Get(args) => objects::get(api, args).await,
        Command::Describe(args) => objects::describe(Some(api), args).await,
        Command::Delete(args) => objects::delete(api, args).await,
        Command::Rename(args) => objects::rename(api, args).await,
        Command::Accounting(args) => accounting::accounting(api, args).await,
        Command::Why(args) => accounting::why(api, args).await,
        Command::Logs(args) => logs::logs(api, args).await,
        Command::Messages(args) => messages::messages(api, args).await,
        Command::Query(args) => query::query(api, args).await,
        Command::Wait(args) => accounting::wait(api, args).await,
        Command::Stop(args) => orders::stop(api, args).await,
        Command::Resume(args) => orders::resume(api, args).await,
        Command::Rerun(args) => orders::rerun(api, args).await,
        Command::Halt(args) => orders::halt(api, args).await,
        Command::Doctor(args) => doctor::site(api, args).await,
        Command::Site(_)
        | Command::Agent(_)
        | Command::Login(_)
        | Command::Logout
        | Command::Status(_)
        | Command::Component(_)
        | Command::SetAside(_)
        | Command::Schema(_)
        | Command::Publisher(_)
        | Command::Completions { .. }
        | Command::Failpoints
        | Command::Man { .. } => Err(Failure::usage("this command needs no site")),
    }
}
