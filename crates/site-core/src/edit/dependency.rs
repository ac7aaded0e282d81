//! The programs that must succeed before an advertised one: followed from signed package to signed
//! package, pinned, in the order in which they run.
//!
//! A walk asks for one published version after another, because only the shell can look one up; what
//! may follow what is decided here. `apply` refuses what cannot be pinned, with the field.

use std::collections::BTreeSet;

use muster_model::name::Name;
use muster_model::package::Program;
use muster_model::parameter::{self, Values};
use muster_model::policy::PinnedProgram;
use muster_model::problem::Problem;
use muster_model::program::{DEPENDENCIES_MAX, Dependency};

use super::{PublishedVersion, problem};

/// Where every fault of a dependency is shown: the advertisement names the program that has it.
const FIELD: &str = "spec.program";

/// A walk along dependencies, from the advertised program down.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The programs that were met, by package and name: meeting one again is a cycle.
    met: BTreeSet<(Name, Name)>,
    /// What was pinned, the nearest to the advertised program first.
    pinned: Vec<PinnedProgram>,
    next: Option<Dependency>,
}

impl Walk {
    /// Begins at `program` of the package called `package`.
    pub fn new(package: &Name, program: &Program) -> Self {
        Self {
            met: BTreeSet::from([(package.clone(), program.name.clone())]),
            pinned: Vec::new(),
            next: program.depends_on.clone(),
        }
    }

    /// The next dependency to look up; `None` if all are pinned.
    pub fn wants(&self) -> Option<&Dependency> {
        self.next.as_ref()
    }

    /// Takes what [`Walk::wants`] asked for; `None` if no such version is published.
    pub fn take(&mut self, found: Option<&PublishedVersion>) -> Result<(), Problem> {
        let Some(wanted) = self.next.take() else { return Ok(()) };
        let refuse = |why: String| problem(FIELD, format!("it depends on {wanted}, {why}"));
        let found = found.ok_or_else(|| refuse("which is not published".to_owned()))?;
        let program = found.spec.program(wanted.program.as_str());
        let program = program.ok_or_else(|| refuse("which that package lacks".to_owned()))?;
        if found.revoked {
            return Err(refuse("which is revoked".to_owned()));
        }
        if !self.met.insert((wanted.package.name.clone(), wanted.program.clone())) {
            return Err(refuse("which depends on itself by that: a cycle".to_owned()));
        }
        if self.pinned.len() >= DEPENDENCIES_MAX {
            let detail = format!("as the {DEPENDENCIES_MAX}th of a row (DEPENDENCIES_MAX)");
            return Err(refuse(detail));
        }
        if let Err(problems) = parameter::resolve(&program.parameters, &Values::new(), "") {
            let names: Vec<&str> =
                problems.iter().map(|problem| problem.field.trim_start_matches('.')).collect();
            let detail = format!("whose parameters nobody can give a value: {}", names.join(", "));
            return Err(refuse(detail));
        }
        let program = PinnedProgram { package: found.pinned.clone(), program: wanted.program };
        self.pinned.push(program);
        self.next = found.spec.program(self.last_name()).and_then(|one| one.depends_on.clone());
        Ok(())
    }

    fn last_name(&self) -> &str {
        self.pinned.last().map_or("", |last| last.program.as_str())
    }

    /// What was pinned, in the order in which it runs.
    pub fn finish(mut self) -> Vec<PinnedProgram> {
        self.pinned.reverse();
        self.pinned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{name, pinned};
    use serde_json::{Value, json};

    /// A site that publishes version 1 of each package of `packages`, whose one program `install` has
    /// more fields: follows the first one's dependencies.
    fn walk(packages: &[(&str, Value)]) -> Result<Vec<String>, String> {
        let published: Vec<PublishedVersion> = packages
            .iter()
            .map(|(package, more)| {
                let mut program = json!({"name": "install", "commandLine": "sh install.sh"});
                program.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                let spec = json!({"version": "1", "programs": [program]});
                PublishedVersion {
                    pinned: pinned(package, "1"),
                    spec: serde_json::from_value(spec).unwrap(),
                    revoked: *package == "revoked",
                }
            })
            .collect();
        let first = &published[0];
        let mut walk = Walk::new(&first.pinned.name, &first.spec.programs[0]);
        while let Some(wanted) = walk.wants() {
            let is = |one: &&PublishedVersion| {
                one.pinned.name == wanted.package.name
                    && Some(&one.pinned.version) == wanted.package.version.as_ref()
            };
            walk.take(published.iter().find(is)).map_err(|problem| problem.to_string())?;
        }
        assert_eq!(name(packages[0].0), first.pinned.name);
        Ok(walk.finish().iter().map(ToString::to_string).collect())
    }

    fn on(package: &str) -> Value {
        json!({"dependsOn": {"package": package, "program": "install"}})
    }

    #[track_caller]
    fn refused(packages: &[(&str, Value)], said: &str) {
        let problem = walk(packages).unwrap_err();
        assert!(problem.contains(said), "{problem}");
    }

    #[test]
    fn a_chain_is_pinned_in_the_order_in_which_it_runs() {
        let chain = [("a", on("b@1")), ("b", on("c@1")), ("c", json!({}))];
        assert_eq!(walk(&chain).unwrap(), ["`install` of c@1", "`install` of b@1"]);
        assert_eq!(walk(&[("a", json!({}))]).unwrap(), [""; 0]);
    }

    #[test]
    fn what_cannot_be_pinned_is_refused_and_named() {
        refused(&[("a", on("b@1"))], "`install` of b@1, which is not published");
        refused(&[("a", on("b@2")), ("b", json!({}))], "which is not published");
        refused(&[("a", on("revoked@1")), ("revoked", json!({}))], "which is revoked");
        let lacks = json!({"dependsOn": {"package": "b@1", "program": "go"}});
        refused(&[("a", lacks), ("b", json!({}))], "which that package lacks");
        let asks = json!({"parameters": {"host": {"required": true}}});
        refused(&[("a", on("b@1")), ("b", asks)], "nobody can give a value: host");
    }

    #[test]
    fn a_cycle_is_refused_wherever_it_closes() {
        refused(&[("a", on("a@1"))], "a cycle");
        refused(&[("a", on("b@1")), ("b", on("a@1"))], "a cycle");
        refused(&[("a", on("b@1")), ("b", on("c@1")), ("c", on("b@1"))], "a cycle");
    }

    #[test]
    fn a_row_has_a_limit() {
        let names: Vec<String> = (0..=DEPENDENCIES_MAX + 1).map(|n| format!("p{n}")).collect();
        let packages: Vec<(&str, Value)> = names
            .iter()
            .enumerate()
            .map(|(n, name)| (name.as_str(), on(&format!("p{}@1", n + 1))))
            .collect();
        refused(&packages, "DEPENDENCIES_MAX");
    }
}
