// An OpenID provider of npm's oidc-provider, for TestKeyManager: open to dynamic
// registration with an initial token, with opaque and JWT access tokens.
// Arguments: directory of the package, port. POST /_rotate changes its keys.
import http from 'node:http';
import { createRequire } from 'node:module';
import { generateKeyPairSync } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const [dir, port] = process.argv.slice(2);
const require = createRequire(pathToFileURL(dir + '/'));
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')).href);

let round = 0;
function provider() {
  const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
  const made = new Provider(`http://127.0.0.1:${port}`, {
    jwks: { keys: [{ ...key, kid: `key-${++round}`, use: 'sig', alg: 'RS256' }] },
    cookies: { keys: ['only for a test'] },
    scopes: ['openid', 'read', 'write'],
    clients: ['gateway', 'existing'].map((name) => ({
      client_id: name, client_secret: `${name}-s3cret-of-the-provider`, grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
    })),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      registration: { enabled: true, initialAccessToken: 'initial-s3cret-of-the-provider' },
      registrationManagement: { enabled: true, rotateRegistrationAccessToken: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        getResourceServerInfo: () => ({ scope: 'read write', accessTokenFormat: 'jwt', accessTokenTTL: 600, jwt: { sign: { alg: 'RS256' } } }),
      },
    },
  });
  made.on('server_error', (_, err) => console.error(err));
  return made.callback();
}

let current = provider();
const server = http.createServer((req, res) => {
  if (req.method === 'POST' && req.url === '/_rotate') {
    current = provider();
    res.end('rotated');
    return;
  }
  current(req, res);
});
server.listen(Number(port), '127.0.0.1', () => console.log('ready'));
