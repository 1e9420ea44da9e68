import http from 'node:http';

const form = process.argv[2];
const port = Number(process.env.PORT || 38484);
const server = http.createServer((req, res) => res.end(form));
const forms = {
  port: () => server.listen(port),
  text: () => server.listen(String(port)),
  'port-callback': () => server.listen(port, () => console.log('listening')),
  'port-host': () => server.listen(port, 'localhost', () => console.log('listening')),
  'port-host-backlog': () => server.listen(port, '0.0.0.0', 511, () => console.log('listening')),
  options: () => server.listen({ port }, () => console.log('listening')),
  'options-host': () => server.listen({ port, host: '127.0.0.1', backlog: 100 }),
  'options-exclusive': () => server.listen({ port, exclusive: true }),
  'options-signal': () => server.listen({ port, signal: new AbortController().signal }),
  'options-ipv6': () => server.listen({ port, host: '::', ipv6Only: false }),
  path: () => server.listen(`/tmp/app-${process.pid}.sock`),
  nothing: () => server.listen(),
};
forms[form]();
