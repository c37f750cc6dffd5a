//! How a server is reached where the usual way will not do: whose certificates are believed, and a proxy on the way.
//!
//! - `ca` takes the place of this machine's certificate authorities, for this server alone. A certificate in the file is
//!   believed in two ways: as an authority, and as the server's own. The second is what `openssl req -x509` makes: rustls
//!   refuses it as a server's certificate, because it calls itself an authority, and it often names no host.
//! - A server that presents exactly a certificate of the file is the one that was meant: whether it is over its date, and
//!   which names stand in it, adds nothing to that. That it has the key is still checked.
//! - A proxy sees no request: what goes through it is HTTPS, by CONNECT.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use url::Url;

/// How one server is reached.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Network {
    /// `None`: what this machine believes.
    pub trust: Option<Trust>,
    /// `None`: straight. The environment names none, on purpose.
    pub proxy: Option<Proxy>,
}

/// The certificates of a `ca` file.
#[derive(Clone, PartialEq)]
pub struct Trust(Vec<CertificateDer<'static>>);

/// An HTTP proxy that opens tunnels.
#[derive(Clone, PartialEq, Debug)]
pub struct Proxy {
    pub url: Url,
    /// What it is told of who we are.
    authorization: Option<HeaderValue>,
}

impl Network {
    /// What reqwest has to know. The error completes "cannot set up HTTPS: ...".
    pub(super) fn apply(&self, builder: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder, String> {
        // First of all: only what is configured counts.
        let mut builder = builder.no_proxy();
        if let Some(proxy) = &self.proxy {
            let why = |error: reqwest::Error| super::http::causes(error);
            let mut through = reqwest::Proxy::https(proxy.url.clone()).map_err(why)?;
            if let Some(authorization) = &proxy.authorization {
                through = through.custom_http_auth(authorization.clone());
            }
            builder = builder.proxy(through);
        }
        match &self.trust {
            Some(trust) => Ok(builder.tls_backend_preconfigured(trust.config()?)),
            None => Ok(builder),
        }
    }

    /// Where a connection goes first.
    pub fn first_stop<'a>(&'a self, server: &'a Url) -> &'a Url {
        self.proxy.as_ref().map_or(server, |proxy| &proxy.url)
    }
}

impl Trust {
    /// Reads a PEM file. The error completes "the certificates in FILE ...".
    pub fn from_pem(pem: &[u8]) -> Result<Trust, String> {
        let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| format!("cannot be read: {error}"))?;
        if certificates.is_empty() {
            return Err("are none: it has no -----BEGIN CERTIFICATE-----".to_owned());
        }
        let trust = Trust(certificates);
        trust.config().map(|_| trust)
    }

    fn config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(Verifier::new(self.0.clone(), Arc::clone(&provider))?);
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} certificates)", self.0.len())
    }
}

impl Proxy {
    /// `credentials`: `user:password`.
    pub fn new(url: Url, credentials: Option<&SecretString>) -> Result<Proxy, &'static str> {
        let authorization = match credentials {
            Some(credentials) => Some(basic(credentials)?),
            None => None,
        };
        Ok(Proxy { url, authorization })
    }
}

fn basic(credentials: &SecretString) -> Result<HeaderValue, &'static str> {
    let plain = credentials.expose_secret();
    if !plain.contains(':') {
        return Err("it is not of the form user:password");
    }
    let value = SecretString::from(format!("Basic {}", STANDARD.encode(plain)));
    super::http::authorization(&value).ok_or("no header can carry it")
}

/// Believes the certificates of a file, and what they have signed.
#[derive(Debug)]
struct Verifier {
    /// As the server's own, byte for byte.
    own: Vec<CertificateDer<'static>>,
    /// As authorities.
    issuers: Arc<WebPkiServerVerifier>,
}

impl Verifier {
    fn new(
        certificates: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Verifier, String> {
        let mut roots = RootCertStore::empty();
        let (_, unusable) = roots.add_parsable_certificates(certificates.iter().cloned());
        if unusable > 0 {
            return Err(format!("cannot be used: {unusable} of {} are no X.509 v3", certificates.len()));
        }
        let issuers = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let issuers = issuers.map_err(|error| format!("cannot be used: {error}"))?;
        Ok(Verifier { own: certificates, issuers })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.own.iter().any(|own| own == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        self.issuers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issuers.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issuers.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.issuers.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
