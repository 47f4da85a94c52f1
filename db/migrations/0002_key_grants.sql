ALTER TABLE "keys" ADD COLUMN "name" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "keys" ADD COLUMN "restrictions" jsonb DEFAULT '{}'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "keys" ADD COLUMN "limits" jsonb DEFAULT '{}'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "keys" ADD COLUMN "previous_secret" "bytea";--> statement-breakpoint
ALTER TABLE "keys" ADD COLUMN "previous_until" timestamp with time zone;--> statement-breakpoint
CREATE INDEX "audit_tenant" ON "audit" USING btree ("tenant","id");--> statement-breakpoint
-- The administrator's key acts for every tenant.
UPDATE "keys" SET "scopes" = array_append("scopes", 'operator')
	WHERE "note" = 'administrator, made by the first start' AND NOT 'operator' = ANY("scopes");
