/* What a handler cannot try from Python: raw entries into the kernel, of this ABI and of others.
 * Runs inside a sandbox, from /tmp; refuses the initial pid namespace. Prints one line for each
 * attempt, `WHAT OUTCOME`: ok, the errno's name, or the name of the signal that ended the process
 * that tried it.
 *
 *   attack table SKIPPED…   every system call number from 0 to 1023 but those, without arguments
 *   attack foreign          i386 and x32 numbers
 *   attack terminal         TIOCSTI and TIOCLINUX, also with the register's upper half set
 *   attack vsyscall         the vsyscall page, under a filter that forbids what it offers
 *   attack refilter         filters of one's own that would allow what the sandbox's refuses
 *   attack threads          refused calls from a thread that is older than a filter, and a new one
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NUMBERS = 1024, X32_NUMBERS = 548 };

/* Shared with the children that try: what came back, and that something did. */
struct answer {
  long result;
  int came;
};
static struct answer* answer;

typedef void (*attempt)(long argument);

static long raw(long number, long a, long b, long c) {
  const long result = syscall(number, a, b, c);
  return result == -1 ? -errno : result;
}

/* No call and no return between the kernel and the store: a vfork comes back twice on one stack. */
static void bare_call(long number) {
#if defined(__x86_64__)
  register long r10 __asm__("r10") = 0;
  register long r8 __asm__("r8") = 0;
  register long r9 __asm__("r9") = 0;
  long result = number;
  __asm__ volatile("syscall"
                   : "+a"(result)
                   : "D"(0L), "S"(0L), "d"(0L), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
#else
  register long x8 __asm__("x8") = number;
  register long result __asm__("x0") = 0;
  register long x1 __asm__("x1") = 0;
  register long x2 __asm__("x2") = 0;
  register long x3 __asm__("x3") = 0;
  register long x4 __asm__("x4") = 0;
  register long x5 __asm__("x5") = 0;
  __asm__ volatile("svc 0"
                   : "+r"(result)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
#endif
  answer->result = result;
  answer->came = 1;
}

/* Tries in a child, and says how that went. A call that waits was let in: the alarm ends it. */
static const char* outcome_of(attempt try, long argument) {
  answer->came = 0;
  const pid_t child = fork();
  if (child < 0) {
    perror("fork");
    exit(1);
  }
  if (child == 0) {
    signal(SIGALRM, SIG_DFL);
    const struct itimerval soon = {{0, 0}, {0, 200000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    try(argument);
    _exit(0);
  }
  int status = 0;
  while (waitpid(child, &status, __WALL) < 0 && errno == EINTR) {
  }
  if (answer->came) {
    return answer->result >= 0 || answer->result < -4095 ? "ok"
                                                         : strerrorname_np((int)-answer->result);
  }
  if (WIFSIGNALED(status)) {
    static char name[32];
    snprintf(name, sizeof name, "SIG%s", sigabbrev_np(WTERMSIG(status)));
    return name;
  }
  return "ended"; /* exit and its kin */
}

static void say(const char* what, attempt try, long argument) {
  printf("%s %s\n", what, outcome_of(try, argument));
}

static void say_number(const char* prefix, long number, attempt try, long argument) {
  char what[64];
  snprintf(what, sizeof what, "%s%ld", prefix, number);
  say(what, try, argument);
}

/* --- every number --------------------------------------------------------------------------------
 */

static void try_table(int count, char** skipped) {
  for (long number = 0; number < NUMBERS; ++number) {
    int skip = 0;
    for (int i = 0; i < count; ++i) {
      skip |= atol(skipped[i]) == number;
    }
    if (!skip) {
      say_number("", number, bare_call, number);
    }
  }
}

/* --- other ABIs ----------------------------------------------------------------------------------
 */

#if defined(__x86_64__)
static void call_i386(long number) {
  long result = number;
  __asm__ volatile("int $0x80"
                   : "+a"(result)
                   : "b"(0L), "c"(0L), "d"(0L), "S"(0L), "D"(0L)
                   : "r8", "r9", "r10", "r11", "memory");
  answer->result = (int)result;
  answer->came = 1;
}

static void try_foreign(void) {
  /* getpid, fork, mount, ptrace, socketcall, clone, unshare, setns, seccomp, bpf */
  static const long i386[] = {20, 2, 21, 26, 102, 120, 310, 346, 354, 357};
  for (size_t i = 0; i < sizeof i386 / sizeof *i386; ++i) {
    say_number("i386:", i386[i], call_i386, i386[i]);
  }
  for (long number = 0; number < X32_NUMBERS; ++number) {
    say_number("x32:", number, bare_call, 0x40000000 | number);
  }
}

static void call_vsyscall(long offset) {
  long (*entry)(void*, void*) = (long (*)(void*, void*))(0xffffffffff600000 + offset);
  long seconds[2] = {0, 0};
  answer->result = entry(seconds, NULL);
  answer->came = 1;
}
#endif

/* --- filters of one's own ------------------------------------------------------------------------
 */

static long install(struct sock_filter* code, unsigned short length, unsigned long flags) {
  struct sock_fprog program = {length, code};
  return raw(SYS_seccomp, SECCOMP_SET_MODE_FILTER, (long)flags, (long)&program);
}

static void forbid_time(void) {
#if defined(__x86_64__)
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_time, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_gettimeofday, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getcpu, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  if (install(code, sizeof code / sizeof *code, 0) != 0) {
    _exit(9);
  }
#endif
}

#if defined(__x86_64__)
static void call_forbidden_vsyscall(long offset) {
  forbid_time();
  call_vsyscall(offset);
}
#endif

static void unshare_user(void) {
  answer->result = raw(SYS_unshare, CLONE_NEWUSER, 0, 0);
  answer->came = 1;
}

/* After a filter that answers everything with `action`. */
static void unshare_after(long action) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unshare, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, (uint32_t)action), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  if (install(code, sizeof code / sizeof *code, 0) != 0) {
    _exit(9);
  }
  unshare_user();
}

/* A listener could let a call go on that a filter refused: SECCOMP_USER_NOTIF_FLAG_CONTINUE. */
static void listen_to_calls(long unused) {
  (void)unused;
  struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF)};
  answer->result = install(code, 1, SECCOMP_FILTER_FLAG_NEW_LISTENER);
  answer->came = 1;
}

static void strict_mode(long unused) {
  (void)unused;
  answer->result = raw(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0);
  answer->came = 1;
}

static void try_refilter(void) {
  say("allow", unshare_after, SECCOMP_RET_ALLOW);
  say("log", unshare_after, SECCOMP_RET_LOG);
  say("listener", listen_to_calls, 0);
  say("strict", strict_mode, 0);
}

/* --- threads -------------------------------------------------------------------------------------
 */

static void* unshare_in_thread(void* unused) {
  (void)unused;
  unshare_user();
  return NULL;
}

static void thread_of(long unused) {
  (void)unused;
  pthread_t thread;
  if (pthread_create(&thread, NULL, unshare_in_thread, NULL) == 0) {
    pthread_join(thread, NULL);
  }
}

/* A thread group of one's own that shares the memory, as an ancient libc made them. To be there at
 * all is what is tried, where the clone itself asked for a namespace. */
static int unshare_in_clone(void* flags) {
  if (((uintptr_t)flags & (CLONE_NEWUSER | CLONE_NEWNS)) == 0) {
    unshare_user();
  } else {
    answer->result = 0;
    answer->came = 1;
  }
  return 0;
}

static void clone_with_memory(long flags) {
  static char stack[1 << 16] __attribute__((aligned(16)));
  int status = 0;
  const int child = clone(unshare_in_clone, stack + sizeof stack, (int)(flags | CLONE_VM | SIGCHLD),
                          (void*)flags);
  if (child < 0) {
    answer->result = -errno;
    answer->came = 1;
    return;
  }
  waitpid(child, &status, 0);
}

static void try_threads(void) {
  say("thread", thread_of, 0);
  say("clone:VM", clone_with_memory, 0);
  say("clone:VM|FS|FILES", clone_with_memory, CLONE_FS | CLONE_FILES);
  say("clone:VM|NEWUSER", clone_with_memory, CLONE_NEWUSER);
  say("clone:VM|NEWNS", clone_with_memory, CLONE_NEWNS);
}

/* --- terminals -----------------------------------------------------------------------------------
 */

static void push_input(long request) {
  char byte[16] = "\003";
  answer->result = raw(SYS_ioctl, 0, request, (long)byte);
  answer->came = 1;
}

static void try_terminal(void) {
  say("TIOCSTI", push_input, TIOCSTI);
  say("TIOCLINUX", push_input, 0x541c);
  say("TIOCSTI+2^32", push_input, (long)(0x100000000 | TIOCSTI));
  say("TIOCLINUX+2^63", push_input, (long)(0x8000000000000000 | 0x541c));
}

int main(int count, char** words) {
  struct stat namespace;
  if (stat("/proc/self/ns/pid", &namespace) != 0 || namespace.st_ino == 4026531836u) {
    fprintf(stderr, "attack: this is for the inside of a sandbox\n");
    return 2;
  }
  answer = mmap(NULL, sizeof *answer, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  const char* what = count > 1 ? words[1] : "";
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (answer == MAP_FAILED) {
    return 1;
  } else if (strcmp(what, "table") == 0) {
    try_table(count - 2, words + 2);
  } else if (strcmp(what, "refilter") == 0) {
    try_refilter();
  } else if (strcmp(what, "threads") == 0) {
    try_threads();
  } else if (strcmp(what, "terminal") == 0) {
    try_terminal();
#if defined(__x86_64__)
  } else if (strcmp(what, "foreign") == 0) {
    try_foreign();
  } else if (strcmp(what, "vsyscall") == 0) {
    say("gettimeofday", call_forbidden_vsyscall, 0x000);
    say("time", call_forbidden_vsyscall, 0x400);
    say("getcpu", call_forbidden_vsyscall, 0x800);
#endif
  } else {
    fprintf(stderr, "attack: there is nothing called '%s'\n", what);
    return 2;
  }
  return 0;
}
