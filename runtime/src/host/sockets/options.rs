//! Socket options. A pipe inside this process has no use for them: they only have to survive a round trip.

/// Options of a TCP socket.
#[derive(Clone, Copy)]
pub struct TcpOptions {
    pub keep_alive: bool,
    pub keep_alive_idle_nanos: u64,
    pub keep_alive_interval_nanos: u64,
    pub keep_alive_count: u32,
    pub hop_limit: u8,
    pub receive_buffer_bytes: u64,
    pub send_buffer_bytes: u64,
}

impl Default for TcpOptions {
    fn default() -> Self {
        // Linux's own defaults.
        TcpOptions {
            keep_alive: false,
            keep_alive_idle_nanos: 7_200_000_000_000,
            keep_alive_interval_nanos: 75_000_000_000,
            keep_alive_count: 9,
            hop_limit: 64,
            receive_buffer_bytes: 65_536,
            send_buffer_bytes: 65_536,
        }
    }
}

/// Options of a UDP socket.
#[derive(Clone, Copy)]
pub struct UdpOptions {
    pub hop_limit: u8,
    pub receive_buffer_bytes: u64,
    pub send_buffer_bytes: u64,
}

impl Default for UdpOptions {
    fn default() -> Self {
        // Linux's own defaults.
        UdpOptions { hop_limit: 64, receive_buffer_bytes: 212_992, send_buffer_bytes: 212_992 }
    }
}
