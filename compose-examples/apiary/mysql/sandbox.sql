-- The image makes apiary_production and its user (MYSQL_DATABASE, MYSQL_USER); the sandbox has a database of its own.
CREATE DATABASE apiary_sandbox;
GRANT ALL ON apiary_sandbox.* TO 'apiary'@'%';
