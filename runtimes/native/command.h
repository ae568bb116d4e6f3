/* The life of a native sandbox's process: it says that it is ready, waits for a RUN, and becomes
 * the command. */
#ifndef BROOD_RUNTIMES_NATIVE_COMMAND_H
#define BROOD_RUNTIMES_NATIVE_COMMAND_H

/* `conn` speaks the frames of isolate/wire.h and is close-on-exec. Returns only where no command
 * took the process's place: its exit status. 0 when the agent closed before it asked for one. */
int brood_be_command(int conn);

#endif
