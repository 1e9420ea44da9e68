require('node:http').createServer((req, res) => res.end('a folder')).listen(process.env.PORT || 38483);
