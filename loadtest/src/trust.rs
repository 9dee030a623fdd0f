//! `wss://`: whose certificates are believed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Whom clients take for the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those whom this machine trusts.
    System,
    /// Those whose certificates are in a file, in PEM.
    File(PathBuf),
    /// Anybody.
    Anybody,
}

/// How a client makes sure of one server.
#[derive(Debug, Clone)]
pub struct Secure {
    /// What all clients have in common.
    pub config: Arc<ClientConfig>,
    /// As whom the server has to show itself. A host name is sent to it as well (SNI).
    pub name: ServerName<'static>,
}

impl Trust {
    /// What clients need to speak TLS; the error is a sentence.
    ///
    /// Each client is somebody else: none goes on with what another has agreed on, so that each handshake is a whole one.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(ring::default_provider());
        let versions = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let versions = versions.map_err(|err| format!("cannot speak TLS: {err}"))?;
        let trusting: ConfigBuilder<ClientConfig, WantsClientCert> = match self {
            Trust::System => versions.with_root_certificates(system_roots()?),
            Trust::File(path) => versions.with_root_certificates(roots_of(path)?),
            Trust::Anybody => versions.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(provider))),
        };
        let mut config = trusting.with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// In a word, for reports.
    pub fn word(&self) -> &'static str {
        match self {
            Trust::System => "system",
            Trust::File(_) => "file",
            Trust::Anybody => "unchecked",
        }
    }
}

fn roots_of(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let cannot = |err: &dyn std::fmt::Display| format!("cannot take certificates from {}: {err}", path.display());
    for certificate in CertificateDer::pem_file_iter(path).map_err(|err| cannot(&err))? {
        let certificate = certificate.map_err(|err| cannot(&err))?;
        roots.add(certificate).map_err(|err| cannot(&err))?;
    }
    if roots.is_empty() { Err(cannot(&"there are none in PEM")) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // One that this machine has and rustls cannot read is missed when a server needs it.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |err| format!(" ({err})"));
        return Err(format!("this machine trusts nobody's certificates{why}: name some by --ca"));
    }
    Ok(roots)
}

/// Takes every certificate. That the server has the key to it is still looked at.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
