const app = (req, res) => res.end('a property');
module.exports = { app, version: '1.0.0' };
if (require.main === module) require('node:http').createServer(app).listen(38477);
