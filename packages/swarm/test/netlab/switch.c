// A user-space switch between network namespaces that adds delay, jitter, loss and a rate limit to each host's link.
// For kernels without sch_netem. Usage: switch HOST:DELAY_US:LOSS_PERMILLE:RATE_KBIT:JITTER_US ...   (0 = none)
// HOST names an existing network namespace; each gets a TAP device `lab0`. A frame from A to B waits A's plus B's delay.
// Ends with the process that started it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_HOSTS = 32, QUEUE = 8192, FRAME = 2048, MAX_BACKLOG_NS = 200 * 1000 * 1000 };

typedef struct { uint64_t due; int length; unsigned char data[FRAME]; } Frame;
typedef struct {
  int fd, loss_permille, known;
  uint64_t delay_ns, jitter_ns, rate_kbit, link_free_at;
  unsigned char mac[6];
  Frame *queue;            // frames on their way to this host, a binary heap by due time
  unsigned size;
} Host;

static Host hosts[MAX_HOSTS];
static int host_count;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t jitter_ns(const Host *host) { return host->jitter_ns ? (uint64_t)rand() % host->jitter_ns : 0; }

static int open_tap(const char *name) {
  char path[128];
  snprintf(path, sizeof path, "/var/run/netns/%s", name);
  int home = open("/proc/self/ns/net", O_RDONLY), space = open(path, O_RDONLY);
  if (space < 0 || setns(space, CLONE_NEWNET)) { perror(path); exit(1); }
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
  strcpy(request.ifr_name, "lab0");
  if (fd < 0 || ioctl(fd, TUNSETIFF, &request)) { perror("tun"); exit(1); }
  if (setns(home, CLONE_NEWNET)) { perror("setns home"); exit(1); }
  close(space);
  close(home);
  return fd;
}

static void push(Host *host, const unsigned char *data, int length, uint64_t due) {
  if (host->size == QUEUE) return;  // a full queue drops, as a router does
  unsigned i = host->size++;
  while (i && host->queue[(i - 1) / 2].due > due) { host->queue[i] = host->queue[(i - 1) / 2]; i = (i - 1) / 2; }
  host->queue[i].due = due;
  host->queue[i].length = length;
  memcpy(host->queue[i].data, data, length);
}

static void pop(Host *host) {
  Frame *last = &host->queue[--host->size];
  unsigned i = 0;
  for (;;) {
    unsigned child = 2 * i + 1;
    if (child >= host->size) break;
    if (child + 1 < host->size && host->queue[child + 1].due < host->queue[child].due) child++;
    if (host->queue[child].due >= last->due) break;
    host->queue[i] = host->queue[child];
    i = child;
  }
  if (i != host->size) host->queue[i] = *last;
}

static void receive(Host *from) {
  unsigned char data[FRAME];
  for (int burst = 0; burst < 256; burst++) {
    int length = read(from->fd, data, sizeof data);
    if (length <= 0) return;
    memcpy(from->mac, data + 6, 6);
    from->known = 1;
    if (rand() % 1000 < from->loss_permille) continue;
    uint64_t sent = now_ns();
    if (from->rate_kbit) {
      if (from->link_free_at < sent) from->link_free_at = sent;
      if (from->link_free_at - sent > MAX_BACKLOG_NS) continue;
      from->link_free_at += (uint64_t)length * 8000000ull / from->rate_kbit;
      sent = from->link_free_at;
    }
    sent += from->delay_ns + jitter_ns(from);
    int one = 0;
    if (!(data[0] & 1))
      for (int i = 0; i < host_count; i++)
        if (hosts[i].known && &hosts[i] != from && !memcmp(hosts[i].mac, data, 6)) {
          push(&hosts[i], data, length, sent + hosts[i].delay_ns + jitter_ns(&hosts[i]));
          one = 1;
        }
    if (!one)
      for (int i = 0; i < host_count; i++)
        if (&hosts[i] != from) push(&hosts[i], data, length, sent + hosts[i].delay_ns + jitter_ns(&hosts[i]));
  }
}

int main(int argc, char **argv) {
  if (argc < 3 || argc - 1 > MAX_HOSTS) { fprintf(stderr, "usage: switch HOST:DELAY_US:LOSS_PERMILLE:RATE_KBIT:JITTER_US ...\n"); return 2; }
  for (int i = 1; i < argc; i++) {
    Host *host = &hosts[host_count++];
    char name[64];
    unsigned long long delay_us = 0, rate = 0, jitter_us = 0;
    if (sscanf(argv[i], "%63[^:]:%llu:%d:%llu:%llu", name, &delay_us, &host->loss_permille, &rate, &jitter_us) < 1) return 2;
    host->delay_ns = delay_us * 1000;
    host->jitter_ns = jitter_us * 1000;
    host->rate_kbit = rate;
    host->fd = open_tap(name);
    host->queue = malloc(sizeof(Frame) * QUEUE);
    if (!host->queue) return 1;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    struct pollfd waits[MAX_HOSTS + 1];
    for (int i = 0; i < host_count; i++) waits[i] = (struct pollfd){ hosts[i].fd, POLLIN, 0 };
    waits[host_count] = (struct pollfd){ timer, POLLIN, 0 };
    poll(waits, host_count + 1, -1);
    uint64_t expirations;
    if (read(timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN) return 1;
    for (int i = 0; i < host_count; i++) receive(&hosts[i]);
    uint64_t next = 0, now = now_ns();
    for (int i = 0; i < host_count; i++) {
      while (hosts[i].size && hosts[i].queue[0].due <= now) {
        if (write(hosts[i].fd, hosts[i].queue[0].data, hosts[i].queue[0].length) < 0 && errno == EAGAIN) break;
        pop(&hosts[i]);
      }
      if (hosts[i].size && (!next || hosts[i].queue[0].due < next)) next = hosts[i].queue[0].due;
    }
    if (next) {
      uint64_t at = next > now_ns() ? next : now_ns() + 20000;
      struct itimerspec when = { .it_value = { at / 1000000000ull, at % 1000000000ull } };
      timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
    }
  }
}
