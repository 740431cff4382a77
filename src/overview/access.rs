//! Who may look: whoever reaches the machine itself, or who has the token.

use axum::http::{HeaderMap, header};
use ring::hmac::{self, HMAC_SHA256, Key};

/// How the name of the cookie begins that stands for a token that was shown once.
const COOKIE: &str = "tidegauge";
/// How many characters behind it are those of the token.
const NAME_CHARS: usize = 8;

/// What opens the pages.
#[derive(Clone)]
pub(super) struct Access {
    token: Option<Token>,
}

#[derive(Clone)]
struct Token {
    key: Key,
    /// Browsers keep cookies by machine and not by port: under one name two services of one machine would take each
    /// other's away.
    name: String,
    cookie: String,
}

impl Access {
    /// By a token; without one, only under the names of the machine itself.
    pub(super) fn new(token: Option<&str>) -> Self {
        Self { token: token.map(Token::new) }
    }

    /// Whether a request may see the pages.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        match &self.token {
            None => is_local(headers),
            Some(token) => {
                let shown = bearer(headers).is_some_and(|given| token.is(given));
                shown || cookies(headers, &token.name).any(|given| token.is_cookie(given))
            }
        }
    }

    /// The `Set-Cookie` of a token in the address, if it is the right one. Links from chats, letters and other sites
    /// take it along (`Lax`): pages change nothing, and no other site can read them.
    pub(super) fn cookie_for(&self, given: &str) -> Option<String> {
        let token = self.token.as_ref().filter(|token| token.is(given))?;
        Some(format!("{}={}; Path=/; HttpOnly; SameSite=Lax", token.name, token.cookie))
    }

    /// Whether there is a token.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }
}

impl Token {
    fn new(token: &str) -> Self {
        let key = Key::new(HMAC_SHA256, token.as_bytes());
        let signed = |text: &str| -> String {
            let tag = hmac::sign(&key, text.as_bytes());
            tag.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
        };
        let cookie = signed("tidegauge overview");
        let own: String = signed("name of the cookie").chars().take(NAME_CHARS).collect();
        Self { name: format!("{COOKIE}-{own}"), cookie, key }
    }

    /// In a time that does not depend on how much of it is right: keyed digests are compared, not texts.
    fn is(&self, given: &str) -> bool {
        self.is_cookie(&Self::new(given).cookie)
    }

    fn is_cookie(&self, given: &str) -> bool {
        let expected = hmac::sign(&self.key, self.cookie.as_bytes());
        hmac::verify(&self.key, given.as_bytes(), expected.as_ref()).is_ok()
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn cookies<'a>(headers: &'a HeaderMap, named: &'a str) -> impl Iterator<Item = &'a str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let each =
        all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    each.filter(move |(name, _)| *name == named).map(|(_, value)| value)
}

/// Whether the address that the browser shows is one of this machine: a page elsewhere that makes its own name lead
/// here is turned away.
fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return true;
    };
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = without_port.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("a header"))])
    }

    #[test]
    fn only_the_token_or_its_cookie_opens() {
        let access = Access::new(Some("correct horse battery"));
        assert!(access.admits(&with(header::AUTHORIZATION, "Bearer correct horse battery")));
        for wrong in [
            "Bearer correct horse",
            "Bearer ",
            "correct horse battery",
            "Bearer correct horse batterY",
        ] {
            assert!(!access.admits(&with(header::AUTHORIZATION, wrong)), "{wrong}");
        }
        assert!(!access.admits(&with(header::HOST, "localhost")), "even from here");
        assert!(access.cookie_for("correct").is_none());
        let set = access.cookie_for("correct horse battery").expect("it is right");
        assert!(!set.contains("correct"), "the cookie does not hold the token");
        let (pair, rest) = set.split_once(';').expect("attributes");
        // A link in a chat or a letter opens: the browser sends the cookie when a page of another site leads here.
        assert!(rest.contains("HttpOnly") && rest.contains("SameSite=Lax"));
        assert!(access.admits(&with(header::COOKIE, &format!("a=b; {pair}"))));
        assert!(!access.admits(&with(header::COOKIE, &format!("{pair}0"))));
        assert!(!Access::new(Some("another token")).admits(&with(header::COOKIE, pair)));
    }

    /// A browser has one cookie of each name for a machine, whatever the port.
    #[test]
    fn two_services_of_one_machine_take_no_cookie_from_each_other() {
        let pair = |token: &str| {
            let set = Access::new(Some(token)).cookie_for(token).expect("it is right");
            set.split(';').next().expect("name and value").to_owned()
        };
        let tokens = ["correct horse battery", "another token of 16"];
        let [first, second] = tokens.map(pair);
        let split = |pair: &str| -> [String; 2] {
            let (name, value) = pair.split_once('=').expect("name and value");
            [name.to_owned(), value.to_owned()]
        };
        assert!(first.starts_with("tidegauge-"), "{first}");
        assert_ne!(split(&first)[0], split(&second)[0]);
        assert_eq!(first, pair(tokens[0]), "after a restart with the same token it is the same");
        let both = with(header::COOKIE, &format!("{first}; {second}"));
        for token in tokens {
            assert!(Access::new(Some(token)).admits(&both), "{token}");
        }
        // What another service has set opens nothing, under whichever name.
        let forged = format!("{}={}", split(&first)[0], split(&second)[1]);
        assert!(!Access::new(Some(tokens[0])).admits(&with(header::COOKIE, &forged)));
    }

    #[test]
    fn without_a_token_only_names_of_the_machine_itself_open() {
        let access = Access::new(None);
        for host in
            ["localhost", "localhost:9465", "127.0.0.1:9465", "127.1.2.3", "[::1]:9465", "[::1]"]
        {
            assert!(access.admits(&with(header::HOST, host)), "{host}");
        }
        for host in ["example.com", "127.0.0.1.example.com:9465", "10.0.0.1", "localhost.example:1"]
        {
            assert!(!access.admits(&with(header::HOST, host)), "{host}");
        }
    }
}
