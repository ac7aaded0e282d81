//! The packages that content is kept of, as the newest policy names them: shared with the tasks that
//! verify, so that no package is refused by half of a change.
//!
//! A trust document is believed when it arrives; the signatures that go with it come with the policy,
//! which the machine acts on a moment later. Who is refused between the two looks again
//! ([`Packages::newer`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_agent_core::saved::Saved;
use muster_agent_core::step::Write;
use muster_model::digest::Digest;
use muster_model::policy::PinnedPackage;
use tokio::sync::watch;

/// How long a refusal waits for the policy that its trust document came with. That policy is here
/// already and only waits its turn, unless the poll broke off in between.
const POLICY_BEHIND_MOST: Duration = Duration::from_secs(30);

/// The packages, and the number of the trust document that the policy at hand was compiled with.
#[derive(Debug, Default)]
pub(crate) struct Packages {
    pinned: Mutex<BTreeMap<Digest, PinnedPackage>>,
    policy_trust: watch::Sender<u64>,
}

impl Packages {
    /// Begins again with what was saved.
    pub(super) fn restore(&self, saved: &Saved) {
        let packages = saved.contents.iter().map(|content| content.package.clone());
        *self.pinned() = packages.map(|package| (package.manifest, package)).collect();
        self.policy_trust.send_replace(saved.policy.as_ref().map_or(0, |policy| policy.trust));
    }

    /// Follows what was saved: a new key may have signed a package that is here.
    pub(super) fn keep(&self, writes: &[Write]) {
        for write in writes {
            if let Write::Content(row) = write {
                self.insert(row.package.clone());
            }
        }
        // After the signatures, so that who waits for the number finds them.
        for write in writes {
            if let Write::Policy(policy) = write {
                self.policy_trust.send_replace(policy.trust);
            }
        }
    }

    pub(super) fn insert(&self, package: PinnedPackage) {
        self.pinned().insert(package.manifest, package);
    }

    pub(super) fn remove(&self, manifest: Digest) {
        self.pinned().remove(&manifest);
    }

    pub(super) fn get(&self, manifest: Digest) -> Option<PinnedPackage> {
        self.pinned().get(&manifest).cloned()
    }

    /// The manifests of all of them.
    pub(super) fn manifests(&self) -> BTreeSet<Digest> {
        self.pinned().keys().copied().collect()
    }

    /// `package` as the newest policy names it, if a refusal under trust document `number` says nothing
    /// about that: the policy is behind the document, or other signatures have come. Waits for the
    /// policy, at most [`POLICY_BEHIND_MOST`].
    pub(super) async fn newer(
        &self,
        package: &PinnedPackage,
        number: u64,
    ) -> Option<PinnedPackage> {
        let mut policy_trust = self.policy_trust.subscribe();
        let behind = *policy_trust.borrow() < number;
        if behind {
            let follows = policy_trust.wait_for(|of_policy| *of_policy >= number);
            // Without that policy the package is judged by what is here.
            let _ = tokio::time::timeout(POLICY_BEHIND_MOST, follows).await;
        }
        self.get(package.manifest).filter(|newest| behind || newest != package)
    }

    fn pinned(&self) -> MutexGuard<'_, BTreeMap<Digest, PinnedPackage>> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use muster_model::name::Name;
    use muster_model::policy::KeySignature;
    use muster_model::sign::{Domain, PrivateKey};

    use super::*;

    fn signed_by(keys: &[u8]) -> PinnedPackage {
        let signature = |seed: &u8| {
            let key = PrivateKey::from_seed([*seed; 32]);
            KeySignature { key: key.public(), signature: key.sign(Domain::Manifest, b"hello") }
        };
        PinnedPackage {
            name: Name::new("hello").unwrap(),
            version: "1".to_owned(),
            manifest: Digest::of(b"hello"),
            signatures: keys.iter().map(signature).collect(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_counts_once_the_policy_has_followed_the_trust() {
        let packages = Packages::default();
        let (old, new) = (signed_by(&[1]), signed_by(&[1, 2]));
        packages.insert(old.clone());
        packages.policy_trust.send_replace(1);
        assert_eq!(packages.newer(&old, 1).await, None, "nothing is under way");
        let (found, ()) = tokio::join!(packages.newer(&old, 2), async {
            packages.insert(new.clone());
            packages.policy_trust.send_replace(2);
        });
        assert_eq!(found, Some(new.clone()));
        assert_eq!(packages.newer(&old, 2).await, Some(new.clone()), "asked with what is outdated");
        assert_eq!(packages.newer(&new, 2).await, None);
        assert_eq!(packages.newer(&new, 3).await, Some(new), "no policy follows: judged as it is");
    }
}
