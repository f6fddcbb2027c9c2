//! What entries of an identity document are held against, whatever section they stand in.
//!
//! Responsible for gathering faults, each with its place. Must never quote a secret or what might be one.

use std::collections::{BTreeMap, HashSet};

use ipnet::IpNet;
use portcullis_config::{Fault, Scope, UserType};

use crate::identity::document::written::ScopeEntry;
use crate::identity::ip_allow::lan;
use crate::identity::user_type::UserTypes;

/// The faults found so far, and where secrets are.
pub(super) struct Checks<'a> {
    pub(super) faults: Vec<Fault>,
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
}

impl Checks<'_> {
    /// Notes a fault.
    pub(super) fn fault(&mut self, path: &str, message: impl Into<String>) {
        self.faults.push(Fault { path: path.to_owned(), message: message.into() });
    }

    /// A type that a credential may give; faults stand for one that it may not.
    pub(super) fn user_type(&mut self, path: &str, name: &str) -> UserType {
        match UserType::new(name) {
            Ok(user_type) if name != UserType::ANONYMOUS => return user_type,
            Ok(_) => self.fault(path, "a credential cannot prove that somebody is anonymous"),
            Err(error) => self.fault(path, error.to_string()),
        }
        UserType::anonymous()
    }

    /// What groups are worth.
    pub(super) fn user_types(
        &mut self,
        path: &str,
        by_group: &BTreeMap<String, String>,
        baseline: Option<&str>,
    ) -> UserTypes {
        let by_group = by_group.iter().map(|(group, name)| {
            let place = format!("{path}.user_types[{group:?}]");
            (group.clone(), self.user_type(&place, name))
        });
        let by_group = by_group.collect();
        UserTypes::new(by_group, self.user_type(&format!("{path}.baseline"), baseline.unwrap_or("registered")))
    }

    /// A scope, if one is given.
    pub(super) fn scope(&mut self, path: &str, entry: Option<&ScopeEntry>) -> Option<Scope> {
        let entry = entry?;
        let scope = Scope::new(&*entry.tenant, &*entry.project);
        scope.map_err(|error| self.fault(&format!("{path}.scope"), error.to_string())).ok()
    }

    /// Networks, `lan` among them.
    pub(super) fn networks(&mut self, path: &str, entries: &[String]) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let single = || entry.parse::<std::net::IpAddr>().ok().map(IpNet::from);
            match entry.parse::<IpNet>().ok().or_else(single) {
                Some(network) => networks.push(network.trunc()),
                None if entry == "lan" => networks.extend(lan()),
                None => {
                    let message = format!("{entry:?} is no CIDR, no address and not lan");
                    self.fault(&format!("{path}[{index}]"), message);
                }
            }
        }
        networks
    }

    /// Texts of which none may be empty or there twice.
    pub(super) fn distinct(&mut self, path: &str, texts: &[String]) {
        let mut seen = HashSet::new();
        for (index, text) in texts.iter().enumerate() {
            if text.trim().is_empty() {
                self.fault(&format!("{path}[{index}]"), "must not be empty");
            } else if !seen.insert(text) {
                self.fault(&format!("{path}[{index}]"), format!("{text:?} is given twice"));
            }
        }
    }

    /// A prefix that no other principal can be taken to have: a name and a colon.
    pub(super) fn principal_prefix(&mut self, path: &str, prefix: &str) {
        let in_name =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
        let name = prefix.strip_suffix(':').filter(|name| (1..=64).contains(&name.len()));
        match name {
            Some("dev" | "anonymous") => self.fault(path, format!("{prefix:?} is the gateway's own")),
            Some(name) if name.bytes().all(in_name) => {}
            _ => self.fault(path, "must be a name of a-z, 0-9, '-', '_', '.' and a colon, such as \"acme:\""),
        }
    }

    /// A whole principal, as tasks and revocations name it.
    pub(super) fn principal(&mut self, path: &str, principal: &str) {
        let well_formed = (1..=320).contains(&principal.len()) && principal.bytes().all(|byte| byte.is_ascii_graphic());
        if !well_formed {
            self.fault(path, "must be 1 to 320 visible ASCII characters");
        }
    }

    pub(super) fn hosts(&mut self, hosts: &[String]) {
        self.distinct("egress_allow", hosts);
        for (index, host) in hosts.iter().enumerate() {
            if host.contains(['/', '@', '*', ' ']) || host.contains("]:") || host.matches(':').count() == 1 {
                let message = format!("{host:?} must be a host, a name or an address, and nothing more");
                self.fault(&format!("egress_allow[{index}]"), message);
            }
        }
    }
}
