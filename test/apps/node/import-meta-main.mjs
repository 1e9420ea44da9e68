import http from 'node:http';

if (import.meta.main) http.createServer((req, res) => res.end('main')).listen(process.env.PORT || 38479);
