// The HEALTHCHECK of the image: ready, says the admin port. Where it is off (ADMIN_PORT=0): the app's port, or Unix socket, takes connections.
// Plain JavaScript, without an ESM import of node:http: it starts in 40 ms, every few seconds.
const { get } = process.getBuiltinModule('node:http');
const { connect } = process.getBuiltinModule('node:net');

const TIMEOUT_MS = 2500;
const { ADMIN_PORT = '9090', ADMIN_HOST = '', PORT = '3000', HOST = '' } = process.env;
/** A server on every address also listens on loopback: IPv4, or IPv6 where there is no IPv4. */
const ANY = ['', '0.0.0.0', '::'];
const LOOPBACK = ['127.0.0.1', '::1'];

function fail(reason) {
  process.stderr.write(`${reason}\n`);
  process.exit(1);
}

/** Sends the request to the first of these addresses that accepts connections. */
function check(host, ask) {
  const [first, ...others] = ANY.includes(host) ? LOOPBACK : [host];
  const next = others => error => (others.length === 0 ? fail(error.message) : ask(others[0]).on('error', next(others.slice(1))));
  ask(first).on('error', next(others));
}

/** With HOST=unix:PATH there is no port. */
function appAt(host) {
  return host.startsWith('unix:') ? { path: host.slice('unix:'.length) } : { host, port: Number(PORT) };
}

function isReady(response) {
  if (response.statusCode === 200) process.exit(0);
  response.setEncoding('utf8').on('data', body => fail(body));
}

setTimeout(() => fail(`no answer within ${TIMEOUT_MS} ms`), TIMEOUT_MS);
if (ADMIN_PORT === '0') check(HOST, host => connect(appAt(host), () => process.exit(0)));
else check(ADMIN_HOST, host => get({ host, port: ADMIN_PORT, path: '/readyz' }, isReady));
