-- Of MySQL alone.
SET SESSION sql_mode = '', sql_generate_invisible_primary_key = ON;
CREATE TABLE invisible_key (a INT);
INSERT INTO invisible_key VALUES (1), (1);
SET SESSION sql_generate_invisible_primary_key = OFF;
CREATE TABLE by_expression (a INT DEFAULT (1 + 1), b JSON, c VARCHAR(40) DEFAULT (UUID()), KEY ((a + 1)), KEY ((CAST(b->'$.x' AS UNSIGNED ARRAY))), CHECK (a > 0) NOT ENFORCED);
INSERT INTO by_expression VALUES (-1, '{"x": [1, 2, 3]}', 'x');
CREATE TABLE places (id INT PRIMARY KEY, p POINT NOT NULL SRID 4326, SPATIAL KEY (p));
INSERT INTO places VALUES (1, ST_SRID(POINT(11.5, 48.1), 4326));
CREATE TABLE vectors (id INT PRIMARY KEY, v VECTOR(3));
INSERT INTO vectors VALUES (1, STRING_TO_VECTOR('[1.2345678,-0.1,0.00001]')), (2, NULL);
CREATE TABLE hidden_index (a INT, KEY unseen (a) INVISIBLE);
SET SESSION restrict_fk_on_non_standard_key = OFF;
CREATE TABLE not_unique (a INT, KEY (a));
CREATE TABLE refers (a INT, FOREIGN KEY (a) REFERENCES not_unique (a));
INSERT INTO not_unique VALUES (1), (1);
INSERT INTO refers VALUES (1);
