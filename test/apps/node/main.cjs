require('node:http').createServer((req, res) => res.end('the main')).listen(process.env.PORT || 38482);
