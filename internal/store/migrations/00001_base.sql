-- The nouns: what is searched or constrained as columns, the rest in the
-- document, a blob. f_ columns are folded for comparisons that ignore case;
-- lists are texts with every element between unit separators.

CREATE TABLE tenants (
    id @text NOT NULL PRIMARY KEY,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "domain" @text NOT NULL,
    f_domain @text NOT NULL,
    "active" BIGINT NOT NULL,
    "number" BIGINT NOT NULL,
    doc @text NOT NULL
);
CREATE UNIQUE INDEX uq_tenants_number ON tenants ("number");

CREATE TABLE tenant_confs (
    id @text NOT NULL PRIMARY KEY,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    doc @text NOT NULL
);

CREATE TABLE users (
    id @text NOT NULL PRIMARY KEY,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "name" @text NOT NULL,
    f_name @text NOT NULL,
    "role" @text NOT NULL,
    doc @text NOT NULL
);
CREATE UNIQUE INDEX uq_users_name ON users ("tenant", "f_name");
CREATE INDEX ix_users_created ON users (tenant, created);

CREATE TABLE roles (
    id @text NOT NULL,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "name" @text NOT NULL,
    f_name @text NOT NULL,
    doc @text NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX uq_roles_name ON roles ("tenant", "name");
CREATE INDEX ix_roles_created ON roles (tenant, created);

CREATE TABLE clients (
    id @text NOT NULL PRIMARY KEY,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "name" @text NOT NULL,
    f_name @text NOT NULL,
    "owner" @text NOT NULL,
    f_owner @text NOT NULL,
    doc @text NOT NULL
);
CREATE UNIQUE INDEX uq_clients_name ON clients ("tenant", "name");
CREATE INDEX ix_clients_created ON clients (tenant, created);

CREATE TABLE signing_keys (
    id @text NOT NULL PRIMARY KEY,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "algorithm" @text NOT NULL,
    doc @text NOT NULL
);
CREATE INDEX ix_signing_keys_created ON signing_keys (tenant, created);

CREATE TABLE apis (
    id @text NOT NULL PRIMARY KEY,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "name" @text NOT NULL,
    f_name @text NOT NULL,
    "name_folded" @text NOT NULL,
    "version" @text NOT NULL,
    f_version @text NOT NULL,
    "context" @text NOT NULL,
    f_context @text NOT NULL,
    "context_template" @text NOT NULL,
    "provider" @text NOT NULL,
    f_provider @text NOT NULL,
    "state" @text NOT NULL,
    "type" @text NOT NULL,
    "tag" @text NOT NULL,
    f_tag @text NOT NULL,
    "category" @text NOT NULL,
    f_category @text NOT NULL,
    "description" @text NOT NULL,
    f_description @text NOT NULL,
    "default" BIGINT NOT NULL,
    "visibility" @text NOT NULL,
    "display_name" @text NOT NULL,
    f_display_name @text NOT NULL,
    "plan" @text NOT NULL,
    "api_policy" @text NOT NULL,
    "op_policy" @text NOT NULL,
    doc @text NOT NULL
);
-- A write that hurts both keys names the first: PostgreSQL looks at them in the
-- order of their making, SQLite in the opposite one.
-- only postgres
CREATE UNIQUE INDEX uq_apis_name ON apis ("tenant", "name_folded", "version");
CREATE UNIQUE INDEX uq_apis_context ON apis ("tenant", "context_template", "version");
-- only sqlite
CREATE UNIQUE INDEX uq_apis_context ON apis ("tenant", "context_template", "version");
CREATE UNIQUE INDEX uq_apis_name ON apis ("tenant", "name_folded", "version");
-- both
CREATE INDEX ix_apis_created ON apis (tenant, created);

CREATE TABLE revisions (
    id @text NOT NULL PRIMARY KEY,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "api" @text NOT NULL,
    "number" BIGINT NOT NULL,
    doc @text NOT NULL
);
CREATE UNIQUE INDEX uq_revisions_number ON revisions ("api", "number");
CREATE INDEX ix_revisions_created ON revisions (tenant, created);

CREATE TABLE deployments (
    id @text NOT NULL PRIMARY KEY,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "api" @text NOT NULL,
    "revision" @text NOT NULL,
    "environment" @text NOT NULL,
    "deployed" BIGINT NOT NULL,
    doc @text NOT NULL
);
CREATE INDEX ix_deployments_api ON deployments ("api");
CREATE INDEX ix_deployments_environment ON deployments ("environment");
CREATE INDEX ix_deployments_revision ON deployments ("revision");
CREATE INDEX ix_deployments_created ON deployments (tenant, created);

CREATE TABLE shared_scopes (
    id @text NOT NULL,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "name" @text NOT NULL,
    f_name @text NOT NULL,
    doc @text NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX uq_shared_scopes_name ON shared_scopes ("tenant", "name");
CREATE INDEX ix_shared_scopes_created ON shared_scopes (tenant, created);

CREATE TABLE applications (
    id @text NOT NULL PRIMARY KEY,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "name" @text NOT NULL,
    f_name @text NOT NULL,
    "owner" @text NOT NULL,
    f_owner @text NOT NULL,
    "status" @text NOT NULL,
    doc @text NOT NULL
);
CREATE UNIQUE INDEX uq_applications_name ON applications ("tenant", "owner", "name");
CREATE INDEX ix_applications_created ON applications (tenant, created);

CREATE TABLE key_mappings (
    id @text NOT NULL PRIMARY KEY,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "application" @text NOT NULL,
    "key_manager" @text NOT NULL,
    "key_type" @text NOT NULL,
    "consumer_key" @text NOT NULL,
    doc @text NOT NULL
);
CREATE UNIQUE INDEX uq_key_mappings_key_type ON key_mappings ("application", "key_manager", "key_type");
CREATE INDEX ix_key_mappings_consumer_key ON key_mappings ("consumer_key");
CREATE INDEX ix_key_mappings_created ON key_mappings (tenant, created);

CREATE TABLE subscriptions (
    id @text NOT NULL PRIMARY KEY,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "application" @text NOT NULL,
    "api" @text NOT NULL,
    "state" @text NOT NULL,
    "policy" @text NOT NULL,
    doc @text NOT NULL
);
CREATE UNIQUE INDEX uq_subscriptions_api ON subscriptions ("application", "api");
CREATE INDEX ix_subscriptions_of_api ON subscriptions ("api");
CREATE INDEX ix_subscriptions_created ON subscriptions (tenant, created);

CREATE TABLE api_keys (
    id @text NOT NULL PRIMARY KEY,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "api" @text NOT NULL,
    "application" @text NOT NULL,
    "owner" @text NOT NULL,
    f_owner @text NOT NULL,
    "hash" @text NOT NULL,
    doc @text NOT NULL
);
CREATE UNIQUE INDEX uq_api_keys_hash ON api_keys ("hash");
CREATE INDEX ix_api_keys_api ON api_keys ("api");
CREATE INDEX ix_api_keys_application ON api_keys ("application");
CREATE INDEX ix_api_keys_created ON api_keys (tenant, created);

CREATE TABLE policies (
    id @text NOT NULL,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "level" @text NOT NULL,
    "name" @text NOT NULL,
    f_name @text NOT NULL,
    doc @text NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX uq_policies_name ON policies ("tenant", "level", "name");
CREATE INDEX ix_policies_created ON policies (tenant, created);

CREATE TABLE environments (
    id @text NOT NULL,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "name" @text NOT NULL,
    f_name @text NOT NULL,
    doc @text NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX uq_environments_name ON environments ("tenant", "name");
CREATE INDEX ix_environments_created ON environments (tenant, created);

CREATE TABLE key_managers (
    id @text NOT NULL,
    tenant @text NOT NULL,
    rev BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    created_by @text NOT NULL,
    updated_by @text NOT NULL,
    "name" @text NOT NULL,
    f_name @text NOT NULL,
    "issuer" @text NOT NULL,
    "type" @text NOT NULL,
    doc @text NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX uq_key_managers_name ON key_managers ("tenant", "name");
CREATE INDEX ix_key_managers_issuer ON key_managers ("issuer");
CREATE INDEX ix_key_managers_created ON key_managers (tenant, created);


-- Documents by content. refs counts the nouns and versions that hold one;
-- touched is when it was last put, from which a grace runs for those to come.
CREATE TABLE blobs (
    hash @text NOT NULL PRIMARY KEY,
    refs BIGINT NOT NULL,
    touched BIGINT NOT NULL,
    size BIGINT NOT NULL,
    data @blob NOT NULL
);
CREATE INDEX ix_blobs_unused ON blobs (touched) WHERE refs = 0;

CREATE TABLE versions (
    id @serial,
    tenant @text NOT NULL,
    kind @text NOT NULL,
    object @text NOT NULL,
    rev BIGINT NOT NULL,
    at BIGINT NOT NULL,
    who @text NOT NULL,
    action @text NOT NULL,
    doc @text NOT NULL,
    pins @text NOT NULL
);
CREATE INDEX ix_versions_object ON versions (kind, object, rev);
CREATE INDEX ix_versions_at ON versions (at);

CREATE TABLE audits (
    id @serial,
    tenant @text NOT NULL,
    kind @text NOT NULL,
    object @text NOT NULL,
    action @text NOT NULL,
    who @text NOT NULL,
    addr @text NOT NULL,
    at BIGINT NOT NULL,
    before @blob,
    after @blob
);
CREATE INDEX ix_audits_at ON audits (tenant, at);
CREATE INDEX ix_audits_object ON audits (kind, object);

-- only sqlite
CREATE TRIGGER audits_keep_rows BEFORE DELETE ON audits BEGIN
    SELECT RAISE(ABORT, 'audits are append-only');
END;
CREATE TRIGGER audits_keep_values BEFORE UPDATE ON audits BEGIN
    SELECT RAISE(ABORT, 'audits are append-only');
END;
-- only postgres
CREATE FUNCTION cardea_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    RAISE EXCEPTION '% are append-only', TG_TABLE_NAME;
  END
$$;
CREATE TRIGGER audits_keep BEFORE DELETE OR UPDATE ON audits FOR EACH ROW EXECUTE FUNCTION cardea_append_only();
-- both

-- The change log. seq is 0 until the relay gives the change its version.
CREATE TABLE changes (
    id @serial,
    at BIGINT NOT NULL,
    tenant @text NOT NULL,
    kind @text NOT NULL,
    object @text NOT NULL,
    op @text NOT NULL,
    parent @text NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL
);
CREATE INDEX ix_changes_pending ON changes (id) WHERE seq = 0;
CREATE INDEX ix_changes_at ON changes (at);

CREATE TABLE items (
    kind @text NOT NULL,
    id @text NOT NULL,
    env @text NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    hash @text NOT NULL,
    size BIGINT NOT NULL,
    body @blob,
    PRIMARY KEY (kind, id, env)
);
CREATE INDEX ix_items_seq ON items (seq);
CREATE INDEX ix_items_hash ON items (hash);

-- One row: the head of the log, the oldest version from which a delta is still
-- complete, and the binary that wrote last.
CREATE TABLE meta (
    id BIGINT NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    floor BIGINT NOT NULL,
    written_by @text NOT NULL
);

CREATE TABLE leases (
    name @text NOT NULL PRIMARY KEY,
    holder @text NOT NULL,
    expires BIGINT NOT NULL
);

CREATE TABLE gateways (
    id @text NOT NULL PRIMARY KEY,
    seen BIGINT NOT NULL,
    node @text NOT NULL
);

CREATE TABLE join_tokens (
    hash @text NOT NULL PRIMARY KEY,
    roles @text NOT NULL,
    expires BIGINT NOT NULL
);

CREATE TABLE refresh_tokens (
    hash @text NOT NULL PRIMARY KEY,
    family @text NOT NULL,
    tenant @text NOT NULL,
    client @text NOT NULL,
    user_id @text NOT NULL,
    user_name @text NOT NULL,
    scopes @text NOT NULL,
    issued BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    used BIGINT NOT NULL,
    access @text NOT NULL,
    access_expires BIGINT NOT NULL
);
CREATE INDEX ix_refresh_tokens_family ON refresh_tokens (family);
CREATE INDEX ix_refresh_tokens_client ON refresh_tokens (client, user_id);
CREATE INDEX ix_refresh_tokens_user ON refresh_tokens (user_id);
CREATE INDEX ix_refresh_tokens_expires ON refresh_tokens (expires);

CREATE TABLE revocations (
    id @text NOT NULL PRIMARY KEY,
    tenant @text NOT NULL,
    jti @text NOT NULL,
    entity @text NOT NULL,
    not_before BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX ix_revocations_expires ON revocations (expires);
