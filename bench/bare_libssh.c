/* What one command over SSH costs at least: libssh, and nothing around it.
 *
 *   bare_libssh [--input FILE] [--piece BYTES] ADDRESS PORT USER KEY KNOWN_HOSTS COMMAND
 *
 * Connects with TCP_NODELAY and curve25519, checks the host's key, signs at once (no probing of methods or keys), runs the command
 * with FILE on its stdin, and copies its stdout here, BYTES at a time (65536). Exits with the command's status.
 */
#include <fcntl.h>
#include <libssh/libssh.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ssh_session session;

static void must(int condition, const char* what) {
  if (condition) return;
  fprintf(stderr, "bare_libssh: %s: %s\n", what, session != NULL ? ssh_get_error(session) : "");
  exit(255);
}

static ssh_session log_in(char** to) {
  const int yes = 1, no = 0;
  const unsigned port = (unsigned)atoi(to[1]);
  session = ssh_new();
  must(session != NULL, "no session");
  ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &no);
  ssh_options_set(session, SSH_OPTIONS_HOST, to[0]);
  ssh_options_set(session, SSH_OPTIONS_PORT, &port);
  ssh_options_set(session, SSH_OPTIONS_USER, to[2]);
  ssh_options_set(session, SSH_OPTIONS_KNOWNHOSTS, to[4]);
  ssh_options_set(session, SSH_OPTIONS_NODELAY, &yes);
  ssh_options_set(session, SSH_OPTIONS_KEY_EXCHANGE, "curve25519-sha256");
  ssh_options_set(session, SSH_OPTIONS_HOSTKEYS, "ssh-ed25519");
  must(ssh_connect(session) == SSH_OK, "connecting");
  must(ssh_session_is_known_server(session) == SSH_KNOWN_HOSTS_OK, "the host's key");
  ssh_key key = NULL;
  must(ssh_pki_import_privkey_file(to[3], NULL, NULL, NULL, &key) == SSH_OK, "the key");
  must(ssh_userauth_publickey(session, NULL, key) == SSH_AUTH_SUCCESS, "logging in");
  ssh_key_free(key);
  return session;
}

static void send_file(ssh_channel channel, const char* path, char* buffer, size_t piece) {
  const int file = open(path, O_RDONLY);
  must(file >= 0, path);
  ssize_t got = 0;
  while ((got = read(file, buffer, piece)) > 0) {
    for (ssize_t sent = 0; sent < got;) {
      const int put = ssh_channel_write(channel, buffer + sent, (uint32_t)(got - sent));
      must(put > 0, "writing");
      sent += put;
    }
  }
  close(file);
}

int main(int count, char** words) {
  const char* input = NULL;
  size_t piece = 65536;
  int at = 1;
  for (; at + 1 < count && strncmp(words[at], "--", 2) == 0; at += 2) {
    if (strcmp(words[at], "--input") == 0) input = words[at + 1];
    if (strcmp(words[at], "--piece") == 0) piece = (size_t)atol(words[at + 1]);
  }
  if (count - at != 6) {
    fputs("usage: bare_libssh [--input FILE] [--piece BYTES] ADDRESS PORT USER KEY KNOWN_HOSTS COMMAND\n", stderr);
    return 2;
  }
  char* buffer = malloc(piece);
  must(buffer != NULL, "no memory");
  log_in(words + at);
  ssh_channel channel = ssh_channel_new(session);
  must(channel != NULL && ssh_channel_open_session(channel) == SSH_OK, "opening a channel");
  must(ssh_channel_request_exec(channel, words[at + 5]) == SSH_OK, "starting the command");
  if (input != NULL) send_file(channel, input, buffer, piece);
  ssh_channel_send_eof(channel);
  int got = 0;
  while ((got = ssh_channel_read(channel, buffer, (uint32_t)piece, 0)) > 0) must(write(1, buffer, (size_t)got) == got, "stdout");
  must(got == 0, "reading");
  const int status = ssh_channel_get_exit_status(channel);
  ssh_channel_free(channel);
  ssh_disconnect(session);
  ssh_free(session);
  free(buffer);
  return status;
}
