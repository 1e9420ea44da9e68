import http from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

async function main() {
  await pause(800); // a database
  const server = http.createServer((req, res) => res.end('connected'));
  server.keepAliveTimeout = 5_000;
  await new Promise((resolve, reject) => server.once('error', reject).listen({ port: process.env.PORT ?? 38475 }, resolve));
  console.log('listens on', server.address().port);
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
