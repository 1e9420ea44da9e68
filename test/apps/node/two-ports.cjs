const http = require('node:http');

http.createServer((req, res) => res.end('the app')).listen(process.env.PORT || 38472);
http.createServer((req, res) => res.end('requests 7')).listen(38473, '127.0.0.1');
