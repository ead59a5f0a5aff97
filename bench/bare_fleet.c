/* What one command on many hosts over SSH costs at least: libssh, a thread for each host, and nothing around it.
 *
 *   bare_fleet AT_ONCE KEY KNOWN_HOSTS <HOSTS
 *
 * HOSTS has "USER ADDRESS" a line. Runs `true` on each, AT_ONCE of them at a time, as bare_libssh does on one. Exits with 1 where one fails.
 */
#include <libssh/libssh.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct host {
  char user[64], address[64];
};
static struct host hosts[1000];
static int count, next, failed;
static const char *key_file, *known_hosts;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static int run_true(const struct host* to) {
  const int yes = 1, no = 0;
  int good = 0;
  ssh_session session = ssh_new();
  ssh_key key = NULL;
  ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &no);
  ssh_options_set(session, SSH_OPTIONS_HOST, to->address);
  ssh_options_set(session, SSH_OPTIONS_USER, to->user);
  ssh_options_set(session, SSH_OPTIONS_KNOWNHOSTS, known_hosts);
  ssh_options_set(session, SSH_OPTIONS_NODELAY, &yes);
  ssh_options_set(session, SSH_OPTIONS_KEY_EXCHANGE, "curve25519-sha256");
  ssh_options_set(session, SSH_OPTIONS_HOSTKEYS, "ssh-ed25519");
  if (ssh_connect(session) == SSH_OK && ssh_session_is_known_server(session) == SSH_KNOWN_HOSTS_OK &&
      ssh_pki_import_privkey_file(key_file, NULL, NULL, NULL, &key) == SSH_OK &&
      ssh_userauth_publickey(session, NULL, key) == SSH_AUTH_SUCCESS) {
    ssh_channel channel = ssh_channel_new(session);
    char byte = 0;
    if (ssh_channel_open_session(channel) == SSH_OK && ssh_channel_request_exec(channel, "true") == SSH_OK) {
      while (ssh_channel_read(channel, &byte, 1, 0) > 0) continue;
      good = ssh_channel_get_exit_status(channel) == 0;
    }
    ssh_channel_free(channel);
  }
  if (!good) fprintf(stderr, "bare_fleet: %s: %s\n", to->address, ssh_get_error(session));
  ssh_key_free(key);
  ssh_disconnect(session);
  ssh_free(session);
  return good;
}

static void* work(void* unused) {
  for (;;) {
    pthread_mutex_lock(&mutex);
    const int mine = next++;
    pthread_mutex_unlock(&mutex);
    if (mine >= count) return unused;
    if (!run_true(&hosts[mine])) failed = 1;
  }
}

int main(int words, char** word) {
  if (words != 4) {
    fputs("usage: bare_fleet AT_ONCE KEY KNOWN_HOSTS <HOSTS\n", stderr);
    return 2;
  }
  key_file = word[2];
  known_hosts = word[3];
  while (count < 1000 && scanf("%63s %63s", hosts[count].user, hosts[count].address) == 2) ++count;
  const int threads = atoi(word[1]) < count ? atoi(word[1]) : count;
  pthread_t* all = calloc((size_t)threads, sizeof *all);
  if (all == NULL) return 1;
  for (int i = 0; i < threads; ++i) {
    if (pthread_create(&all[i], NULL, work, NULL) != 0) return 1;
  }
  for (int i = 0; i < threads; ++i) pthread_join(all[i], NULL);
  free(all);
  return failed;
}
