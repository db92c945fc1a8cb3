// The number of the layout that both planes give their tables: records of steering/types.h, slot.h, tally.h, and what
// lies beside them in ebpf/layout.h and dataplane/dpdk/. Changing any of it changes the number.
#ifndef GODWIT_STEERING_LAYOUT_H
#define GODWIT_STEERING_LAYOUT_H

// Written into the tables; a process that was built with another number does not adopt them.
#define GODWIT_LAYOUT 10u

#endif
