#include "agent/steps/public_notebook.h"

#include <chrono>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

constexpr auto kLimit = std::chrono::minutes(1);
/// Of the script below, where the password is not fit.
constexpr int kBadPassword = 3;

/// The server's own functions hash and compare the password (jupyter_server.auth.security), and its own Python speaks TLS: what they say is
/// what the server does. A made certificate is kept until a week before its end, so that its fingerprint stays what people have compared.
constexpr const char* kScript = R"(import hashlib,json,os,socket,ssl,subprocess,sys,urllib.error,urllib.request as web
verb,port,folder,cert,key,made=sys.argv[1:]
password=os.environ.get('JUPYTER_PASSWORD','')
if len(password)<12:
 print('JUPYTER_PASSWORD has %d characters, and the network may try as many passwords as it likes'%len(password),file=sys.stderr)
 sys.exit(3)
from jupyter_server.auth.security import passwd,passwd_check
config=folder+'/jupyter_server_config.json'
def known():
 try:
  with open(config) as f:return os.fstat(f.fileno()).st_mode&63==0 and passwd_check(json.load(f)['PasswordIdentityProvider']['hashed_password'],password)
 except(OSError,ValueError,KeyError):return False
def valid():
 return os.path.exists(key) and os.path.exists(cert) and(not made or subprocess.call(['openssl','x509','-checkend','604800','-noout','-in',cert],stdout=-3,stderr=-3)==0)
def digest(pem):
 end='-----END CERTIFICATE-----'
 d=hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[pem.index('-----BEGIN C'):pem.index(end)]+end)).hexdigest().upper()
 return ':'.join(d[i:i+2] for i in range(0,64,2))
def status(**headers):
 c=ssl.create_default_context()
 c.check_hostname=False
 c.verify_mode=ssl.CERT_NONE
 try:return web.build_opener(web.ProxyHandler({}),web.HTTPSHandler(context=c)).open(web.Request('https://127.0.0.1:%s/api/status'%port,headers=headers),timeout=10).status
 except urllib.error.HTTPError as e:return e.code
if verb=='prepare':
 os.umask(63)
 os.makedirs(folder,exist_ok=True)
 if made and not valid():
  name=socket.gethostname()
  at=subprocess.run(['hostname','-I'],stdout=-1).stdout.decode().split()
  subprocess.run(['openssl','req','-x509','-newkey','rsa:2048','-nodes','-sha256','-days','825','-subj','/CN='+name[:64],'-addext','subjectAltName='+','.join(['DNS:'+name,'DNS:localhost','IP:127.0.0.1']+['IP:'+a for a in at]),'-keyout',key,'-out',cert],check=True,stderr=-3)
 if not known():
  with open(config+'.new','w') as f:json.dump({'PasswordIdentityProvider':{'hashed_password':passwd(password)}},f)
  os.replace(config+'.new',config)
elif not known():print('its password is another')
elif not valid():print('it has no valid certificate')
else:
 with open(cert) as f:mine=digest(f.read())
 try:
  if digest(ssl.get_server_certificate(('127.0.0.1',int(port))))!=mine:print('it shows another certificate')
  elif status(Authorization='token '+os.environ['JUPYTER_TOKEN'])!=200:print('it does not answer to its token')
  elif status()!=403:print('it lets in without a password')
  else:print('\n'+mine)
 except(OSError,ValueError):print('nothing answers with TLS on port '+port)
)";

}  // namespace

std::string PublicNotebook::folder(const Host& host) const {
  return fmt::format("{}/.local/state/gpustrap/jupyter-{}.public", host.login().home, spec_.name);
}

std::string PublicNotebook::certificate(const Host& host) const {
  return spec_.certificate ? host.as_login().expand(spec_.certificate->text) : folder(host) + "/certificate.pem";
}

std::string PublicNotebook::key(const Host& host) const {
  return spec_.key ? host.as_login().expand(spec_.key->text) : folder(host) + "/key.pem";
}

Command PublicNotebook::command(const Host& host, const std::string& verb, const std::string& token) const {
  return {{host.as_login().expand(environment_folder(spec_)) + "/bin/python", "-I", "-c", kScript, verb,
           fmt::format("{}", spec_.port.number), folder(host), certificate(host), key(host), spec_.certificate ? "" : "made"},
          {{"JUPYTER_TOKEN", token}},
          "",
          "",
          kLimit,
          {}};
}

namespace {

/// The script as a whole is no part of a sentence.
Error trouble_in(const CommandResult& result) {
  const std::string last = first_line(last_lines(strip_control(result.err), 1));
  if (result.exit_code == kBadPassword) {
    return {ErrorCode::recipe, last,
            "a notebook that is open to the network needs a password of 12 characters or more: "
            "env: { JUPYTER_PASSWORD: \"${{ secrets.NAME }}\" }"};
  }
  if (result.err.find("directory: 'openssl'") != std::string::npos) {
    return {ErrorCode::not_found, "there is no openssl on this host to make a certificate with",
            "add a step before this one: apt: [openssl]; or give `certificate` and `key`"};
  }
  return {ErrorCode::command, "the environment's Python could not look after the notebook's password and certificate: " + last,
          "the environment needs jupyter_server 2 or newer, which jupyterlab and notebook 7 bring"};
}

}  // namespace

Result<PublicNotebook::Seen> PublicNotebook::look(const Host& host, const std::string& token) const {
  const Result<CommandResult> result = host.as_login().look(command(host, "look", token));
  if (!result) return fail(result.error());
  if (result->exit_code != 0) return fail(trouble_in(*result));
  const std::vector<std::string> lines = split(result->out, '\n');
  return Seen{lines[0], lines.size() > 1 ? lines[1] : ""};
}

Result<void> PublicNotebook::prepare(Host& host, StepLog& log) const {
  const Result<CommandResult> result = host.as_login().act(command(host, "prepare", ""), log);
  if (!result) return fail(result.error());
  if (result->exit_code != 0) return fail(trouble_in(*result));
  return {};
}

}  // namespace gpustrap
