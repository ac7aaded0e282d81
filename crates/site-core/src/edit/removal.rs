//! What an advertisement's removal asks of the package: a program that takes off what another installs.

use muster_model::advertisement::AdvertisementSpec;
use muster_model::package::{Achieves, Program};
use muster_model::parameter::{self, Values};
use muster_model::problem::Problem;

use super::advertisement::{PublishedVersion, given_values, named_program};
use super::problem;

/// Every fault of the removal that the pinned version shows.
pub(super) fn check_removal(
    version: &PublishedVersion,
    spec: &AdvertisementSpec,
    collection: &Values,
) -> Vec<Problem> {
    let Some(removal) = &spec.removal else { return Vec::new() };
    let program = match named_program(version, &removal.program, "spec.removal.program") {
        Ok(program) => program,
        Err(problem) => return vec![problem],
    };
    let mut problems = Vec::new();
    if program.achieves != Achieves::Absent {
        let detail = format!("program `{}` does not say `achieves: absent`", removal.program);
        problems.push(problem("spec.removal.program", detail));
    }
    let advertised = version.spec.program(spec.program.as_str());
    if advertised.is_some_and(|advertised| advertised.achieves != Achieves::Present) {
        let detail =
            format!("program `{}` installs nothing: there is nothing to remove", spec.program);
        problems.push(problem("spec.removal", detail));
    }
    let given = removal_values(program, &spec.parameters, collection);
    let refused = parameter::resolve(&program.parameters, &given, "spec.parameters").err();
    problems.extend(refused.into_iter().flatten());
    problems
}

/// The values that the removing program is given: those of the advertisement and its collection that it
/// has a parameter for.
pub fn removal_values(program: &Program, advertisement: &Values, collection: &Values) -> Values {
    let mut values = given_values(program, advertisement, collection);
    values.retain(|name, _| program.parameters.contains_key(name));
    values
}

/// Expiry ends an advertisement as deletion does, which who thinks of a deadline may not mean.
pub(super) fn removal_warning(spec: &AdvertisementSpec) -> Option<String> {
    let (removal, expires) = spec.removal.as_ref().zip(spec.expires)?;
    Some(format!(
        "removal: an expired advertisement is one no longer; what it installed is removed {} after \
         {expires}",
        removal.after
    ))
}
