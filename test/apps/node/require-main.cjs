const http = require('node:http');

function main() {
  http.createServer((req, res) => res.end('main')).listen(process.env.PORT || 38478);
}
if (require.main === module) main();
