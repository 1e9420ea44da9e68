/**
 * Serves a built site on 127.0.0.1 only, as a static host would: `node preview.mjs [folder]`. SITE_BASE is the path that it was built for; PORT
 * may be 0 for a free port.
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import sirv from 'sirv';

const { SITE_BASE: base = '/', PORT: port = '4173' } = process.env;
const folder = process.argv[2] ?? join(import.meta.dirname, 'dist');
const notFound = readFileSync(join(folder, '404.html'));
const files = sirv(folder, { dev: true });

const server = createServer((request, response) => {
  const none = () => response.writeHead(404, { 'content-type': 'text/html; charset=utf-8' }).end(notFound);
  if (!request.url?.startsWith(base)) return none();
  request.url = `/${request.url.slice(base.length)}`;
  files(request, response, none);
});
server.listen(Number(port), '127.0.0.1', () => {
  console.log(`The site: http://127.0.0.1:${server.address().port}${base} (Ctrl-C ends it)`);
});
