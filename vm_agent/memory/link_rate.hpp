// What the kernel has measured of a TCP connection. Its own file: <linux/tcp.h> and <netinet/tcp.h> cannot
// meet in one.
#pragma once

namespace godwit::memory {

// Bytes per second that the peer acknowledged at last, when the connection was not merely idle
// (tcpi_delivery_rate); 0: not known yet, or no TCP socket.
double delivery_rate(int socket);

}  // namespace godwit::memory
