//! Addresses between WIT's records and the standard library's.

crate::host::sockets::address::conversions!(super::wit::types);
