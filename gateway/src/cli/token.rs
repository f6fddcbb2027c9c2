//! The subcommands `token …`: keys, delegations and API keys, made and read by hand.
//!
//! Responsible for doing offline what agents and operators do with credentials, and for saying everything that is wrong
//! with what it was given. Must never take a secret as an argument, because every user of the machine can read those,
//! nor print one that was not asked for: secrets come from files or stdin, and go to stdout or into a new file.

mod given;
mod made;
mod keygen;
mod mint;
mod attenuate;
mod inspect;
mod prove;
mod api_key;

use clap::Subcommand;

use super::{Exit, complain};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make an Ed25519 key: for an agent, or to sign roots with.
    Keygen(keygen::KeygenArgs),
    /// Sign the root of a chain as the deployment does, without asking it: no audit event, nothing is counted.
    Mint(Box<mint::MintArgs>),
    /// Add a narrower token to a chain, as the holder of its last one.
    Attenuate(Box<attenuate::AttenuateArgs>),
    /// Print what a chain says, hop by hop, and with a root key whether it verifies.
    Inspect(inspect::InspectArgs),
    /// Print the `DPoP` header that proves possession of a chain's key for one request.
    Prove(prove::ProveArgs),
    /// Make an API key, and print its entry in the identity document.
    ApiKey(api_key::ApiKeyArgs),
}

/// Does what was asked, or says all that is wrong with it.
pub(crate) fn token(command: &TokenCommand) -> Exit {
    let done = match command {
        TokenCommand::Keygen(args) => keygen::keygen(args).map(|()| Exit::Success),
        TokenCommand::Mint(args) => mint::mint(args).map(|()| Exit::Success),
        TokenCommand::Attenuate(args) => attenuate::attenuate(args).map(|()| Exit::Success),
        TokenCommand::Inspect(args) => inspect::inspect(args),
        TokenCommand::Prove(args) => prove::prove(args).map(|()| Exit::Success),
        TokenCommand::ApiKey(args) => api_key::api_key(args).map(|()| Exit::Success),
    };
    done.unwrap_or_else(|faults| {
        complain(faults);
        Exit::Usage
    })
}
