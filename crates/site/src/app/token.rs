//! Tokens and log-on: how devices, people and pipelines are let in.

use muster_model::api::{LoginAnswer, LoginRequest, TokenAnswer, TokenRequest};
use muster_model::digest::Digest;
use muster_model::id::{CollectionId, PrincipalId, TokenId};
use muster_model::name::Name;
use muster_model::object::Kind as ObjectKind;
use muster_model::period::Period;
use muster_model::token::{Token, TrustPin};
use muster_site_core::roles::Principal;
use uuid::Uuid;

use super::change::{About, Change, Code};
use super::error::{Kind, Outcome, Refusal};
use super::{App, Who, draw};
use crate::store::{PrincipalRow, Subject, TokenRow};

/// The longest life of a token.
const TOKEN_LIFE_MAX: Period = Period::days(366);
/// How long a log-on lasts. Whoever can read the site's own folder needs none.
const CREDENTIAL_LIFE: Period = Period::days(90);
/// How often one token lets somebody in at most: the largest fleet.
const TOKEN_USES_MAX: u32 = 1_000_000;

/// What a token may be for, and the principal that it makes of a person or pipeline.
const ROLES: [(&str, Option<Principal>); 8] = [
    ("agent", None),
    ("access-point", None),
    ("site", None),
    ("child-site", None),
    ("admin", Some(Principal::Administrator)),
    ("auditor", Some(Principal::Auditor)),
    ("help-desk", Some(Principal::HelpDesk)),
    ("pipeline", Some(Principal::Pipeline)),
];

impl App {
    /// Makes a token. Its secret is in the answer and nowhere else.
    pub(crate) async fn token_create(
        &self,
        who: &Who,
        request: TokenRequest,
    ) -> Outcome<TokenAnswer> {
        check(&request)?;
        let trust = self.trust().await?;
        let mut change = Change::begin(self, who).await?;
        let collection = match &request.collection {
            Some(name) => {
                let found = change.tx.object_find(ObjectKind::Collection, name).await?;
                let found = found.ok_or_else(|| Refusal::not_found("collection", name))?;
                Some(CollectionId(found.id))
            }
            None => None,
        };
        let token = Token {
            id: TokenId(Uuid::now_v7()),
            secret: draw::secret()?,
            ca: self.keys.ca.pin(),
            trust: trust.pin().map(|pin| TrustPin { number: pin.number, digest: pin.digest }),
        };
        let expires = change.now.plus(request.ttl.duration());
        let row = TokenRow {
            id: token.id,
            role: request.role.clone(),
            name: request.name.as_ref().map(Name::to_string),
            secret: Token::secret_digest(&token.secret),
            uses_left: request.uses.into(),
            expires_at: expires,
            hold: request.hold,
            collection,
            created_at: change.now,
            created_by: change.by.clone(),
            revoked_at: None,
        };
        change.tx.token_insert(&row).await?;
        change.concerns(Subject::Credential(token.id.0));
        let uses = if request.uses == 1 { "use" } else { "uses" };
        let said = format!("token {} for {} {uses} as {}", token.id, request.uses, request.role);
        change.say(Code::TokenCreated, About::default(), said);
        change.commit().await?;
        let mut warnings = Vec::new();
        if request.role == "agent" && token.trust.is_none() {
            warnings.push(
                "there is no publisher yet, so a device enrolled with this token believes the first \
                 one it hears of; run `muster publisher init` first"
                    .to_owned(),
            );
        }
        Ok(TokenAnswer { id: token.id, token: token.to_string(), expires, warnings })
    }

    /// A credential for a token of a person or pipeline.
    pub(crate) async fn log_on(&self, request: LoginRequest) -> Outcome<LoginAnswer> {
        let refused = || Refusal::new(Kind::Unauthorised, "the token is not good");
        let (id, secret) = Token::read_claim(&request.token).map_err(|_| refused())?;
        let secret = Token::secret_digest(&secret);
        self.check_secret(id, secret).await?.ok_or_else(refused)?;
        let mut change = Change::begin_by_site(self).await?;
        let used = change.tx.token_use(id, secret, change.now).await?;
        let used = used.ok_or_else(refused)?;
        let role = ROLES.iter().find(|(word, _)| *word == used.role);
        let role = role.and_then(|(_, role)| *role).ok_or_else(refused)?;
        let credential = draw::secret()?;
        let id = PrincipalId(Uuid::now_v7());
        let name = used.name.unwrap_or_else(|| format!("{} {}", used.role, id));
        let name = Name::new(name).map_err(|_| refused())?;
        let row = principal(id, role, name, &credential, &used.created_by, change.now);
        let expires_at = Some(change.now.plus(CREDENTIAL_LIFE.duration()));
        let row = PrincipalRow { expires_at, ..row };
        change.tx.principal_insert(&row).await?;
        change.by = row.name.to_string();
        change.concerns(Subject::Credential(id.0));
        let said = format!("logged on as {role}, let in by {}", used.created_by);
        change.say(Code::LoggedOn, About::default(), said);
        change.commit().await?;
        Ok(LoginAnswer {
            credential,
            principal: row.name.to_string(),
            role: role.word().to_owned(),
        })
    }

    /// The token of that id, good or not, if its secret is this one. A look only: a stranger who
    /// guesses holds nobody up.
    pub(crate) async fn check_secret(
        &self,
        id: TokenId,
        secret: Digest,
    ) -> Outcome<Option<TokenRow>> {
        let mut read = self.db.read().await?;
        Ok(read.token_load(id).await?.filter(|row| row.secret == secret))
    }

    /// Who shows a credential; `None`: nobody that the site knows.
    pub(crate) async fn principal_of(&self, credential: &str) -> Outcome<Option<Who>> {
        let digest = credential_digest(credential);
        let revision = self.index.credentials_revision();
        let now = self.now();
        if let Some(who) = self.credentials.get(&digest, revision, now) {
            return Ok(Some(who));
        }
        let mut read = self.db.read().await?;
        let Some(row) = read.principal_find_secret(digest, now).await? else { return Ok(None) };
        // A role of a newer version is nobody here.
        let Ok(role) = row.role.parse() else { return Ok(None) };
        let who = Who { id: row.id, name: row.name.to_string(), role };
        self.credentials.put(digest, revision, (who.clone(), row.expires_at));
        Ok(Some(who))
    }
}

/// The row of somebody who shows `credential`.
pub(crate) fn principal(
    id: PrincipalId,
    role: Principal,
    name: Name,
    credential: &str,
    by: &str,
    now: muster_model::clock::Wall,
) -> PrincipalRow {
    PrincipalRow {
        id,
        role: role.word().to_owned(),
        name,
        secret: Some(credential_digest(credential)),
        key: None,
        url: None,
        created_at: now,
        created_by: by.to_owned(),
        expires_at: None,
        revoked_at: None,
    }
}

/// What is stored of a credential.
fn credential_digest(credential: &str) -> Digest {
    Digest::of_parts("muster/credential/v1", &[credential.as_bytes()])
}

fn check(request: &TokenRequest) -> Outcome<()> {
    if !ROLES.iter().any(|(word, _)| *word == request.role) {
        let known: Vec<&str> = ROLES.iter().map(|(word, _)| *word).collect();
        let detail = format!("no role is called `{}`; known: {}", request.role, known.join(", "));
        return Err(Refusal::invalid("role", detail).into());
    }
    if !(1..=TOKEN_USES_MAX).contains(&request.uses) {
        let detail = format!("{} uses; allowed are 1 to {TOKEN_USES_MAX}", request.uses);
        return Err(Refusal::invalid("uses", detail).limit("TOKEN_USES_MAX").into());
    }
    if !(Period::secs(1)..=TOKEN_LIFE_MAX).contains(&request.ttl) {
        let detail = format!("ttl is {}; allowed are 1s to {TOKEN_LIFE_MAX}", request.ttl);
        return Err(Refusal::invalid("ttl", detail).limit("TOKEN_LIFE_MAX").into());
    }
    if request.role != "agent" && (request.hold || request.collection.is_some()) {
        let detail = "hold and collection are for tokens of devices";
        return Err(Refusal::invalid("hold", detail).into());
    }
    Ok(())
}
