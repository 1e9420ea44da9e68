// The HEALTHCHECK of the image: ready, says the admin port. Where it is off (ADMIN_PORT=0): the app's port takes connections.
// Plain JavaScript, without an ESM import of node:http: it starts in 40 ms, every few seconds.
const { get } = process.getBuiltinModule('node:http');
const { connect } = process.getBuiltinModule('node:net');

const TIMEOUT_MS = 2500;
const { ADMIN_PORT = '9090', PORT = '3000' } = process.env;

function fail(reason) {
  process.stderr.write(`${reason}\n`);
  process.exit(1);
}

setTimeout(() => fail(`no answer within ${TIMEOUT_MS} ms`), TIMEOUT_MS);
if (ADMIN_PORT === '0') {
  connect(Number(PORT), '127.0.0.1', () => process.exit(0)).on('error', ({ message }) => fail(message));
} else {
  get({ host: '127.0.0.1', port: ADMIN_PORT, path: '/readyz' }, response => {
    if (response.statusCode === 200) process.exit(0);
    response.setEncoding('utf8').on('data', body => fail(body));
  }).on('error', ({ message }) => fail(message));
}
