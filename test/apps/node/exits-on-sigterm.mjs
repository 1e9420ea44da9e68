import http from 'node:http';

const server = http.createServer((req, res) => setTimeout(() => res.end('handles signals'), 20)).listen(process.env.PORT || 38481);
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    server.close(() => process.exit(0));
    server.closeAllConnections();
    setTimeout(() => process.exit(1), 100);
  });
}
