use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SigningKey as _};
use serde_json::{Value, json};
use sha2::Sha256;

/// A key that signs JSON Web Tokens. It signs by its own code, as documented in RFC 7515 and RFC 7518.
pub struct JwtKey {
    /// Its `kid`.
    pub id: String,
    pair: KeyPair,
}

impl JwtKey {
    /// A new key for RS256.
    pub fn rsa(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            pair: KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(),
        }
    }

    /// A new key for ES256.
    pub fn p256(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            pair: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
        }
    }

    fn is_rsa(&self) -> bool {
        self.pair.is_compatible(&PKCS_RSA_SHA256)
    }

    /// The name of the algorithm that it is for.
    pub fn algorithm(&self) -> &'static str {
        if self.is_rsa() { "RS256" } else { "ES256" }
    }

    /// The public key, as it stands in a certificate.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key_raw()
    }

    /// The public key as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        let public = self.public();
        let mut jwk = if self.is_rsa() {
            // RFC 8017, A.1.1: SEQUENCE { modulus INTEGER, publicExponent INTEGER }, of 2048 bits with a zero in front.
            let (modulus, exponent) = public.split_at(9 + 256);
            assert_eq!(exponent, [2, 3, 1, 0, 1]);
            json!({ "kty": "RSA", "n": base64(&modulus[9..]), "e": "AQAB" })
        } else {
            // SEC 1, 2.3.3: 4, x, y.
            assert_eq!(public.len(), 65);
            json!({ "kty": "EC", "crv": "P-256", "x": base64(&public[1..33]), "y": base64(&public[33..]) })
        };
        jwk["kid"] = self.id.as_str().into();
        jwk["use"] = "sig".into();
        jwk["alg"] = self.algorithm().into();
        jwk
    }

    /// The header of the tokens that it signs.
    pub fn header(&self) -> Value {
        json!({ "alg": self.algorithm(), "typ": "JWT", "kid": self.id })
    }

    /// A token.
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&self.header(), claims)
    }

    /// A token under a header that may lie.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        signed(header, claims, |text| {
            let signature = self.pair.sign(text).unwrap();
            if self.is_rsa() {
                signature
            } else {
                fixed_length(&signature)
            }
        })
    }
}

/// A token signed with HMAC-SHA256 under any bytes.
pub fn hs256_token(secret: &[u8], header: &Value, claims: &Value) -> String {
    signed(header, claims, |text| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        mac.update(text);
        mac.finalize().into_bytes().to_vec()
    })
}

/// A token with any signature.
pub fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let text = format!(
        "{}.{}",
        base64(header.to_string().as_bytes()),
        base64(claims.to_string().as_bytes())
    );
    let signature = sign(text.as_bytes());
    format!("{text}.{}", base64(&signature))
}

fn base64(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// ECDSA signatures are two INTEGERs in DER, and in tokens two numbers of 32 bytes.
fn fixed_length(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut both = Vec::new();
    for _ in 0..2 {
        let (number, behind) = rest[2..].split_at(rest[1].into());
        let digits = &number[number.iter().take_while(|byte| **byte == 0).count()..];
        both.extend(std::iter::repeat_n(0, 32 - digits.len()));
        both.extend(digits);
        rest = behind;
    }
    both
}

/// What an issuer answers.
#[derive(Clone, Debug)]
pub enum Document {
    /// This.
    Text(String),
    /// Bytes without end.
    Endless,
    /// A few bytes, and nothing more.
    Stalled,
    /// A redirect to this place.
    Redirect(String),
    /// An error.
    Failure,
}

struct Served {
    discovery: Document,
    keys: Document,
    /// The paths that were asked for.
    asked: Vec<String>,
}

/// An issuer of OpenID Connect tokens on the loopback interface, honest unless told otherwise.
pub struct Issuer {
    address: SocketAddr,
    served: Arc<Mutex<Served>>,
}

impl Issuer {
    /// An issuer with these keys.
    pub fn start(keys: &[&JwtKey]) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::new(Mutex::new(Served {
            discovery: Document::Failure,
            keys: Document::Failure,
            asked: Vec::new(),
        }));
        let router = Router::new().fallback(answer).with_state(served.clone());
        // Ends with the test.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        let issuer = Self { address, served };
        issuer.set_keys(keys);
        issuer.set_discovery(Document::Text(issuer.discovery().to_string()));
        issuer
    }

    /// Its name.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its honest discovery document.
    pub fn discovery(&self) -> Value {
        json!({ "issuer": self.url(), "jwks_uri": format!("{}/keys", self.url()) })
    }

    /// Has these keys from now on.
    pub fn set_keys(&self, keys: &[&JwtKey]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        self.set_key_document(Document::Text(json!({ "keys": keys }).to_string()));
    }

    /// Answers this when asked for keys.
    pub fn set_key_document(&self, document: Document) {
        self.served.lock().unwrap().keys = document;
    }

    /// Answers this when asked where the keys are.
    pub fn set_discovery(&self, document: Document) {
        self.served.lock().unwrap().discovery = document;
    }

    /// The paths that were asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.served.lock().unwrap().asked.clone()
    }

    /// The claims of a job for this audience, good for five minutes and never used before.
    pub fn claims(&self, audience: &str) -> Value {
        let now = now_unix_s();
        json!({
            "iss": self.url(),
            "aud": audience,
            "sub": "repo:acme/widgets:environment:production",
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "jti": format!("{:032x}", fastrand::u128(..)),
            "repository": "acme/widgets",
            "repository_id": "482139077",
            "repository_owner": "acme",
            "repository_owner_id": "9919",
            "environment": "production",
            "run_id": "17",
            "run_attempt": "1",
            "actor": "octo",
        })
    }
}

/// Seconds since 1970.
pub fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn answer(State(served): State<Arc<Mutex<Served>>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let document = {
        let mut served = served.lock().unwrap();
        served.asked.push(path.clone());
        match path.as_str() {
            "/.well-known/openid-configuration" => served.discovery.clone(),
            "/keys" => served.keys.clone(),
            _ => return StatusCode::NOT_FOUND.into_response(),
        }
    };
    let chunk = Bytes::from(" ".repeat(4096));
    match document {
        Document::Text(text) => text.into_response(),
        Document::Endless => {
            let chunks = tokio_stream::iter(std::iter::repeat(Ok::<_, std::convert::Infallible>(chunk)));
            Body::from_stream(chunks).into_response()
        }
        Document::Stalled => {
            let (sender, chunks) = tokio::sync::mpsc::channel(1);
            tokio::spawn(async move {
                let _ = sender.send(Ok::<_, std::convert::Infallible>(chunk)).await;
                tokio::time::sleep(Duration::from_secs(600)).await;
            });
            Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(chunks)).into_response()
        }
        Document::Redirect(to) => (StatusCode::FOUND, [(LOCATION, to)]).into_response(),
        Document::Failure => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
