//! Who a caller is, and all the ways to be taken for somebody else.
//!
//! Responsible for attacks that go over HTTP to real gateways and a real Redis: on every route, with every kind of
//! credential. Must never look for a refusal without having seen the same thing succeed where it should: a gateway that
//! refuses everybody would pass.

mod key;
mod terms;
mod key_server;
mod agent;
mod sight;
mod routes;
mod walk;
mod behind;
mod order;
mod address;
mod opened;
mod page;
mod lasting;
mod web_token;
mod rotation;
mod publishing;
mod chain;
mod forged;
mod proof;
mod spent;
mod charged;
mod followed;
mod asserted;
mod renamed;
mod operating;
mod asking;
mod deputy;
mod told;
mod taken_back;
mod foreign;
mod isolation;
