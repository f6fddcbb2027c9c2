//! Whom this gateway takes for the application over TLS.
//!
//! Responsible for the certificate authorities it believes: those of the system, or the operator's own instead. Must
//! never believe nobody, or everybody: without an authority there is no `https://`.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::UnusableUpstream;

/// What connections are made with: under the authorities in `ca` (PEM), or those of the system.
pub(super) fn client_config(ca: Option<&[u8]>) -> Result<ClientConfig, UnusableUpstream> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = ca {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate =
                certificate.map_err(|_| UnusableUpstream("has a certificate authority that is no PEM"))?;
            let added = roots.add(certificate);
            added.map_err(|_| UnusableUpstream("has a certificate authority that is no certificate"))?;
        }
    } else {
        // Some of a system's may be older than what is understood here.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err(UnusableUpstream("is https://, but there is no certificate authority to know it by"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions();
    let config = config.map_err(|_| UnusableUpstream("is https://, but there is no TLS to speak"))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
