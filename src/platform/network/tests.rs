//! Against a real TLS listener with certificates as people make them, and a tiny proxy.

use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::platform::http::{Client, HttpError, Timeouts};

/// Certificate and key, PEM.
struct Made {
    certificate: String,
    key: String,
}

/// As README's readers make one: it calls itself an authority, and is for whatever name `more` says.
fn self_signed(more: &[&str]) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bbb"])
        .args(more)
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |path| std::fs::read_to_string(path).unwrap();
    Made { certificate: read(certificate), key: read(key) }
}

/// A private authority, and a server's certificate that it has signed for 127.0.0.1.
fn private_authority() -> (String, Made) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    (authority.pem(), Made { certificate: server.pem(), key: key.serialize_pem() })
}

/// Answers every request with `well`; returns its port.
async fn serve(made: &Made) -> u16 {
    let chain = vec![CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 2048];
            let _whatever_is_asked = stream.read(&mut head).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell";
            let _the_client_may_have_left = stream.write_all(answer).await;
            let _the_same = stream.shutdown().await;
        }
    });
    port
}

/// A proxy that opens tunnels, and tells the heads that it was sent.
async fn proxy(status: &'static str) -> (Url, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mut stream, mut head) = (BufReader::new(stream), String::new());
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).await.is_ok_and(|n| n > 0) {}
            let to = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let _nobody_listens = tell.send(head);
            let mut stream = stream.into_inner();
            stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
            if status.starts_with("200") {
                let mut server = TcpStream::connect(to).await.unwrap();
                let _either_may_leave = copy_bidirectional(&mut stream, &mut server).await;
            }
        }
    });
    (url, told)
}

async fn ask(port: u16, network: &Network) -> Result<Vec<u8>, HttpError> {
    let client = Client::new(Timeouts::default(), network).unwrap();
    let url = Url::parse(&format!("https://127.0.0.1:{port}/api?checksum=c0ffee")).unwrap();
    client.get(url, client.timeouts().total, 100).await.map(|answer| answer.body)
}

fn trusting(pem: &str) -> Network {
    Network { trust: Some(Trust::from_pem(pem.as_bytes()).unwrap()), proxy: None }
}

#[tokio::test]
async fn a_private_authority_is_believed_for_what_it_has_signed_and_only_where_it_is_named() {
    let (authority, made) = private_authority();
    let port = serve(&made).await;
    assert_eq!(ask(port, &trusting(&authority)).await, Ok(b"well".to_vec()));
    let (other, _) = private_authority();
    for network in [Network::default(), trusting(&other)] {
        let error = ask(port, &network).await.unwrap_err();
        assert!(matches!(&error, HttpError::NotSent(why) if why.contains("certificate")), "{error:?}");
    }
}

/// `openssl req -x509` marks what it makes as an authority, which rustls refuses as a server's own; the second names no
/// host; the third is for another one.
#[tokio::test]
async fn a_pinned_certificate_is_believed_where_the_server_presents_exactly_it() {
    let variants: [&[&str]; 3] = [
        &["-addext", "subjectAltName=IP:127.0.0.1"],
        &[],
        &["-addext", "subjectAltName=DNS:other.example.org", "-addext", "keyUsage=critical,digitalSignature"],
    ];
    for more in variants {
        let made = self_signed(more);
        let port = serve(&made).await;
        assert_eq!(ask(port, &trusting(&made.certificate)).await, Ok(b"well".to_vec()), "{more:?}");
        let error = ask(port, &Network::default()).await.unwrap_err();
        assert!(matches!(&error, HttpError::NotSent(why) if why.contains("certificate")), "{error:?}");
        let another = self_signed(more);
        assert!(ask(port, &trusting(&another.certificate)).await.is_err(), "{more:?}");
    }
}

#[tokio::test]
async fn https_goes_through_the_proxy_by_connect_and_it_sees_no_request() {
    let (authority, made) = private_authority();
    let port = serve(&made).await;
    let (url, mut heads) = proxy("200 Connection established").await;
    let secret = SecretString::from("user:hunter2");
    let through = Proxy::new(url, Some(&secret)).unwrap();
    let network = Network { proxy: Some(through), ..trusting(&authority) };
    assert_eq!(ask(port, &network).await, Ok(b"well".to_vec()));
    let head = heads.recv().await.unwrap();
    assert!(head.starts_with(&format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n")), "{head}");
    let authorization = format!("proxy-authorization: basic {}", STANDARD.encode("user:hunter2"));
    assert!(head.to_lowercase().contains(&authorization.to_lowercase()), "{head}");
    assert!(!head.contains("c0ffee") && !format!("{network:?}").contains(&STANDARD.encode("user:hunter2")));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_said_and_nothing_was_sent() {
    let (url, _heads) = proxy("407 Proxy Authentication Required").await;
    let network = Network { proxy: Some(Proxy::new(url, None).unwrap()), trust: None };
    let error = ask(9, &network).await.unwrap_err();
    assert!(matches!(error, HttpError::NotSent(_)) && !error.to_string().contains("c0ffee"), "{error:?}");
    assert!(error.to_string().contains("proxy"), "{error}");
}

#[test]
fn files_and_credentials_that_are_none_are_refused() {
    let why = |pem: &str| Trust::from_pem(pem.as_bytes()).unwrap_err();
    assert!(why("hello").contains("BEGIN CERTIFICATE"), "{}", why("hello"));
    let junk = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    assert!(why(junk).contains("no X.509 v3"), "{}", why(junk));
    let url = Url::parse("http://127.0.0.1:3128").unwrap();
    assert!(Proxy::new(url, Some(&SecretString::from("hunter2"))).is_err());
}
