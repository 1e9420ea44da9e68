import http from 'node:http';

http.createServer((req, res) => res.end('hard-coded')).listen(38471, () => console.log('http://localhost:38471'));
