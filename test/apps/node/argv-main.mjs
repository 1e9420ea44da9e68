import http from 'node:http';
import { fileURLToPath } from 'node:url';

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  http.createServer((req, res) => res.end('main')).listen(process.env.PORT || 38480);
}
