//! `doctor`: looks at an installation and says what is not as it should be.

use muster_model::api::{Finding, Page};

use crate::api::{Api, Query};
use crate::args;
use crate::error::{Failure, Outcome};
use crate::print::{answer, out};

/// `doctor` of the current context's site.
pub(crate) async fn site(api: &Api, args: args::Doctor) -> Outcome {
    let found: Page<Finding> = api.get("/doctor", &Query::new()).await?;
    show(found.items, args.format.output)
}

/// Prints findings; fails if one is not well.
pub(crate) fn show(items: Vec<Finding>, output: args::Output) -> Outcome {
    let page = Page { items, next: None };
    answer(output, &page, |page| {
        for finding in &page.items {
            let verdict = if finding.ok { "ok  " } else { "LOOK" };
            out(format!("{verdict} {}: {}", finding.check, finding.detail));
        }
    })?;
    match page.items.iter().filter(|finding| !finding.ok).count() {
        0 => Ok(()),
        n => Err(Failure::new(format!("{n} findings need a look"))),
    }
}
