/* What an image's test runs: static, because its image has nothing else in it. Prints its
 * arguments, who and where it is, a variable, whose file it is, and whether it may write to /. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char** argv) {
  char directory[4096] = "?";
  for (int i = 0; i < argc; ++i) {
    printf("%s ", argv[i]);
  }
  struct stat own = {0};
  (void)stat("/bin/say", &own);
  const char* greeting = getenv("GREETING"); /* NOLINT(concurrency-mt-unsafe) */
  FILE* made = fopen("/made", "we");
  printf("in %s uid %d gid %d greeting %s owner %d root %s\n", getcwd(directory, sizeof directory),
         (int)getuid(), (int)getgid(), greeting != NULL ? greeting : "none", (int)own.st_uid,
         made != NULL ? "writable" : "closed");
  return 0;
}
