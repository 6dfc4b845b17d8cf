// Package security decides who may talk to a broker and what they may do: TLS of the three listeners with files that are reloaded,
// identities of peers and clients, rights, and limits on what a connection may cost.
//
// # Model
//
// Peers prove by certificate which node of which cluster they are; nothing else makes a peer. Clients prove by certificate, SCRAM or
// signed token which principal they are; a principal may do what the ACLs in the metadata allow it and none denies. Where nobody has
// said that clients must prove who they are, everyone is the anonymous principal and may do everything: only for loopback and for
// --insecure (docs/security.md).
package security
