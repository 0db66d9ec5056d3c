-- The image makes the database "clinical" (POSTGRES_DB); htsget has its own beside it.
CREATE DATABASE genomic;
