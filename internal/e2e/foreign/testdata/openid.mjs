// Drives the authorization code flows with openid-client and oauth4webapi; a
// person is played by fetch, which sends the pages' own forms.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import assert from 'node:assert/strict';

process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'; // the node's certificate is its own

const [dir, base, id, secret, callback] = process.argv.slice(2);
const require = createRequire(dir + '/node_modules/');
const load = async (name) => import(pathToFileURL(require.resolve(name)).href);
const client = await load('openid-client');
const oauth = await load('oauth4webapi');

const jar = new Map();
async function visit(url, form) {
  const res = await fetch(url, {
    method: form ? 'POST' : 'GET', redirect: 'manual', body: form && new URLSearchParams(form),
    headers: { cookie: [...jar].map(([k, v]) => `${k}=${v}`).join('; ') },
  });
  for (const c of res.headers.getSetCookie()) {
    const [pair] = c.split(';');
    const at = pair.indexOf('=');
    if (/max-age=0/i.test(c)) jar.delete(pair.slice(0, at));
    else jar.set(pair.slice(0, at), pair.slice(at + 1));
  }
  return res;
}

async function person(url) {
  let res = await visit(url);
  for (let i = 0; i < 12; i++) {
    if (res.status === 302) {
      const to = new URL(res.headers.get('location'), url);
      if (to.href.startsWith(callback)) return to;
      url = to;
      res = await visit(to);
      continue;
    }
    const page = await res.text();
    assert.equal(res.status, 200, page);
    const form = { consent: 'approve', username: 'admin', password: 'admin' };
    for (const [, name, value] of page.matchAll(/type="hidden" name="([^"]+)" value="([^"]*)"/g)) form[name] = value;
    const action = new URL(page.match(/<form method="post" action="([^"]+)"/)[1], url);
    if (action.href === callback) return { action, form };
    res = await visit(action, form);
  }
  throw new Error('the forms do not end');
}

const config = await client.discovery(new URL(base + '/oauth2/token'), id, secret);
const ok = (what) => console.log('ok ' + what);

async function begin(extra, build = client.buildAuthorizationUrl) {
  const checks = { pkceCodeVerifier: client.randomPKCECodeVerifier(), expectedState: client.randomState(), expectedNonce: client.randomNonce() };
  const url = await build(config, {
    redirect_uri: callback, scope: 'openid profile', state: checks.expectedState, nonce: checks.expectedNonce,
    code_challenge: await client.calculatePKCECodeChallenge(checks.pkceCodeVerifier), code_challenge_method: 'S256', ...extra,
  });
  return [checks, url];
}

let [checks, url] = await begin();
const tokens = await client.authorizationCodeGrant(config, await person(url), checks);
assert.equal(tokens.claims().nonce, checks.expectedNonce);
const info = await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub);
assert.equal(info.preferred_username, 'admin');
ok('code');
const renewed = await client.refreshTokenGrant(config, tokens.refresh_token);
assert.notEqual(renewed.refresh_token, tokens.refresh_token);
ok('refresh');

[checks, url] = await begin({ prompt: 'login', max_age: '60' });
await client.authorizationCodeGrant(config, await person(url), { ...checks, maxAge: 60 });
ok('max_age');

[checks, url] = await begin({}, client.buildAuthorizationUrlWithPAR);
assert.ok(url.searchParams.get('request_uri') && !url.searchParams.get('redirect_uri'));
await client.authorizationCodeGrant(config, await person(url), checks);
ok('pushed');

[checks, url] = await begin({ response_mode: 'form_post' });
const posted = await person(url);
await client.authorizationCodeGrant(config, new Request(posted.action, { method: 'POST', body: new URLSearchParams(posted.form) }), checks);
ok('form_post');

const hybrid = await client.discovery(new URL(base + '/oauth2/token'), id, secret);
client.useCodeIdTokenResponseType(hybrid);
[checks, url] = await begin({ response_type: 'code id_token' });
await client.authorizationCodeGrant(hybrid, await person(url), checks);
ok('hybrid');

const implicit = await client.discovery(new URL(base + '/oauth2/token'), id, secret);
client.useIdTokenResponseType(implicit);
[checks, url] = await begin({ response_type: 'id_token', code_challenge: '', code_challenge_method: '' });
url.searchParams.delete('code_challenge');
url.searchParams.delete('code_challenge_method');
await client.implicitAuthentication(implicit, await person(url), checks.expectedNonce, { expectedState: checks.expectedState });
ok('implicit');

// The lower library by itself, with RFC 8414 discovery.
const issuer = new URL(base + '/oauth2/token');
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2' }));
const c = { client_id: id };
[checks, url] = await begin();
const answer = oauth.validateAuthResponse(as, c, await person(url), checks.expectedState);
const res = await oauth.authorizationCodeGrantRequest(as, c, oauth.ClientSecretBasic(secret), answer, callback, checks.pkceCodeVerifier);
const got = await oauth.processAuthorizationCodeResponse(as, c, res, { expectedNonce: checks.expectedNonce, requireIdToken: true });
ok('oauth4webapi');
const again = await oauth.authorizationCodeGrantRequest(as, c, oauth.ClientSecretBasic(secret), answer, callback, checks.pkceCodeVerifier);
assert.equal(again.status, 400);
assert.equal((await oauth.userInfoRequest(as, c, got.access_token).catch((e) => e)).status ?? 401, 401);
ok('replay');

const out = await person(client.buildEndSessionUrl(config, { id_token_hint: tokens.id_token, post_logout_redirect_uri: callback, state: 'bye' }));
assert.equal(out.searchParams.get('state'), 'bye');
[, url] = await begin({ prompt: 'none' });
assert.equal((await person(url)).searchParams.get('error'), 'login_required');
ok('logout');
